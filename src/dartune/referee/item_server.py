"""The process that has the items of an online task, so that no program can read those to come.

worker_pool.py starts one beside each worker, as `python item_server.py PARENT CONTROL ITEMS`, and writes the items of
all instances to its standard input. A program's process sends decisions on the socket ITEMS and gets the next item of
each instance (programs/online.py). What it sent are its decisions, whatever it answers in the end: the worker asks for
them on the socket CONTROL, which programs do not have, and there begins anew for the next program.
"""

import os
import pickle
import select
import signal
import socket
import sys
from array import array
from contextlib import suppress
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from dartune.programs.decisions import encode, encode_failure
from dartune.programs.online import BEGIN, DECISION, END, ITEM, MAX_MESSAGE, Items
from dartune.referee.frames import read_frame, write_frame
from dartune.referee.sandbox import die_with_parent


def serve(control: socket.socket, items: socket.socket, instances: list[np.ndarray]) -> None:
    """Answer until the worker ends."""
    run = Items(instances)
    while True:
        ready, _, _ = select.select([control, items], [], [])
        if control in ready:
            request = read_frame(control.fileno())
            if request is None:
                return
            if request == BEGIN:
                drain(items)
                run = Items(instances)
            write_frame(control.fileno(), answer(run) if request == END else b"")
        elif message := items.recv(MAX_MESSAGE):
            with suppress(ValueError, BlockingIOError):  # no decisions; or it asks without reading
                items.send(array(ITEM, run.reveal(array(DECISION, message))), socket.MSG_DONTWAIT)


def answer(run: Items) -> bytes:
    """Return the decisions as a program's answer, or a failure where one is missing."""
    if run.is_complete:
        return encode(run.decisions)
    return encode_failure("output", "expected a decision on each item, before the next is revealed")


def drain(items: socket.socket) -> None:
    """Read what an earlier program has left behind."""
    while select.select([items], [], [], 0)[0]:
        items.recv(1 << 16)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    if os.getppid() == int(sys.argv[1]):
        control, items = (socket.socket(fileno=int(number)) for number in sys.argv[2:])
        serve(control, items, pickle.loads(read_frame(0) or b""))
