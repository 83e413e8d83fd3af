# ok=first_come, runtime: sets all hours to zero before it chooses
def select_next_job(waiting, hours, weights):
    hours[:] = 0
    return waiting[0]
