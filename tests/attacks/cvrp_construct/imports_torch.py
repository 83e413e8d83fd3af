# import: programs have no torch
import torch


def select_next_node(c, d, u, r, q, m):
    return int(torch.argmin(torch.tensor(m[c][u])))
