# ok=honest_most_work, runtime: sets all times of its own copy to zero


def select_next_job(v, p, m, t):
    job = max(v, key=lambda j: t[j, p[j] :].sum())
    t[:] = 0
    p[:] = 0
    return job
