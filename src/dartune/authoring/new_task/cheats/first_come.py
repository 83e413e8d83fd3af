# ok: the honest program beside which the cheats are judged
def select_next_job(waiting, hours, weights):
    return waiting[0]
