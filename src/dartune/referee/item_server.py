"""The process that has the items of an online task, so that no program can read those to come.

worker_pool.py starts one beside each worker, as `python item_server.py PARENT CONTROL ITEMS`, and writes the items of
all instances to its standard input. A program's process sends a decision on the socket ITEMS and gets the next item,
instance after instance (programs/online.py). What it sent are its decisions, whatever it answers in the end: the worker
asks for them on the socket CONTROL, which programs do not have, and there begins anew for the next program.
"""

import os
import pickle
import select
import signal
import socket
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from dartune.programs.decisions import encode
from dartune.programs.online import BEGIN, DECISION, END, ITEM
from dartune.referee.frames import read_frame, write_frame
from dartune.referee.sandbox import die_with_parent


class Run:
    """One program's run through the items of all instances."""

    def __init__(self, instances: list[np.ndarray]) -> None:
        self._instances = instances
        self.decisions: list[list[int]] = [[] for _ in instances]
        self._instance, self._shown = 0, 0  # items of this instance that the program has seen

    def reply(self, decision: int) -> float:
        """Note the decision on the item that was shown last, if one was, and return the next; 0 after the last."""
        if self._instance == len(self._instances):
            return 0.0
        items = self._instances[self._instance]
        if self._shown:
            self.decisions[self._instance].append(decision)
        if self._shown == len(items):
            self._instance, self._shown = self._instance + 1, 0
            return 0.0
        self._shown += 1
        return float(items[self._shown - 1])


def serve(control: socket.socket, items: socket.socket, instances: list[np.ndarray]) -> None:
    """Answer until the worker ends."""
    run = Run(instances)
    while True:
        ready, _, _ = select.select([control, items], [], [])
        if control in ready:
            request = read_frame(control.fileno())
            if request is None:
                return
            if request == BEGIN:
                drain(items)
                run = Run(instances)
            write_frame(control.fileno(), encode(run.decisions) if request == END else b"")
        elif (message := items.recv(2 * DECISION.size)) and len(message) == DECISION.size:
            try:
                items.send(ITEM.pack(run.reply(*DECISION.unpack(message))), socket.MSG_DONTWAIT)
            except BlockingIOError:  # it asks without reading
                continue


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
