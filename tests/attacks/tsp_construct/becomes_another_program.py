# forbidden: turns into a shell by execv
import os


def select_next_node(c, d, u, m):
    os.execv("/bin/sh", ["sh", "-c", "echo"])
