# ok: the honest program beside which the cheats are judged
def select_next_job(available, position, machines, times):
    return available[0]
