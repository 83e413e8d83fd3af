# forbidden, import, runtime: multiprocessing, whose locks, pipes and processes all need the system
# needs: seccomp
import multiprocessing


def select_next_node(c, d, u, m):
    with multiprocessing.Pool(2) as pool:
        return pool.map(int, [u[0]])[0]
