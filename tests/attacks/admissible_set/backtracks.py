# timeout: a regular expression that takes 2**40 steps
import re


def priority(el, n, w):
    return len(re.match(r"(a+)+$", "a" * 40 + "b") or "")
