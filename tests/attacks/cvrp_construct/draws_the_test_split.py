# import, forbidden, runtime: draws the held-out instances with the project's own code
from dartune.tasks.task import Task

TEST = Task("cvrp_construct").instances("test")


def select_next_node(c, d, u, r, q, m):
    return min(u, key=lambda x: m[c, x])
