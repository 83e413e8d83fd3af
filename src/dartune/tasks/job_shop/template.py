import numpy as np


def select_next_job(available: np.ndarray, position: np.ndarray, machines: np.ndarray, times: np.ndarray) -> int:
    """Return the job whose next operation starts now.

    available: the jobs whose next operation can start now, in ascending order.
    position: how many operations of each job have been started, shape (n_jobs,); the next one of job j is position[j].
    machines: the machine of each operation of each job, shape (n_jobs, n_operations).
    times: how long each operation takes, shape (n_jobs, n_operations).
    """
    return available[0]
