# output: the refusal that the rule itself raises, but with the status ok
from dartune.programs.verdict import Refused


def select_next_node(c, d, u, r, q, m):
    raise Refused("ok", "score 0")
