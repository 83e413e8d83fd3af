import numpy as np


def select_next_job(waiting: np.ndarray, hours: np.ndarray, weights: np.ndarray) -> int:
    """Return the job that the machine does next.

    waiting: the jobs that are not done, shape (n_waiting,).
    hours: how long each job takes, shape (n_jobs,).
    weights: what an hour costs until a job is done, shape (n_jobs,).
    """
    return waiting[0]
