# ok: starts the job with the most work left


def select_next_job(v, p, m, t):
    return max(v, key=lambda j: t[j, p[j] :].sum())
