# nondeterministic: chooses by the nanoseconds of the clock
import time


def select_next_node(c, d, u, r, q, m):
    return u[time.perf_counter_ns() // 100 % len(u)]
