# infeasible: starts a job that has to wait


def select_next_job(v, p, m, t):
    waits = set(range(len(p))) - {int(j) for j in v}
    return min(waits) if waits else v[0]
