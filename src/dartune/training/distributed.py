"""Several processes for one training, started by accelerate with TRL's settings: on GPUs, or on this machine's cores.

A per-device batch size counts in each process, so one step has n_processes times as many rows. Where an epoch's rows do
not divide evenly, its last step is filled up with rows of its first one.

On several machines run the same command (that of stage train in dvc.yaml) on each, in a folder that they share, with
NODE_RANK (0 where files are written), MASTER_ADDR and MASTER_PORT set, as for torchrun. Only "ddp" runs without GPUs.
"""

import ctypes
import importlib.util
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, PositiveInt
from typing_extensions import TypedDict

from dartune.errors import UserError

CONFIGS = {"ddp": "multi_gpu", "fsdp2": "fsdp2", "zero2": "zero2", "zero3": "zero3"}  # files of trl/accelerate_configs
SHARDED = ("fsdp2", "zero3")  # no process has the whole model
NODES = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # that torch's launcher handles
PARENT = "DARTUNE_LAUNCHER"  # its process id; a process has this variable if it is one of several
PR_SET_PDEATHSIG = 1
T = TypeVar("T")


class Launch(TypedDict):
    """Section train.launch of params.yaml.

    kind: "ddp" has the whole model in each process; "zero2" shards gradients and optimiser, "zero3" and "fsdp2" the
    weights too. n_processes: in all, one per GPU. n_machines: that have equally many of them.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]
    kind: Literal["ddp", "fsdp2", "zero2", "zero3"]
    n_processes: Annotated[int, Field(ge=2)]
    n_machines: PositiveInt


def in_processes(function: Callable[..., None]) -> Callable[..., None]:
    """Decorate a function so that it runs in each of the processes that its keyword `launch` asks for; None: here.

    A UserError in any of them is raised here, once, and ends the others; RuntimeError for any other failure.
    """

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> None:
        if kwargs["launch"] is None or is_worker():
            return function(*args, **kwargs)
        refuse_unequipped(kwargs["launch"])
        with TemporaryDirectory() as folder:
            call = Path(folder, "call.pickle")
            call.write_bytes(pickle.dumps((called, args, kwargs)))
            module = ["--module", "dartune.training.distributed", str(call)]
            start([*options(kwargs["launch"]), "--log_dir", folder, *module])

    return called


def options(launch: Launch) -> list[str]:
    """Return the options of `accelerate launch`, before the script."""
    import torch

    configs = Path(str(importlib.util.find_spec("trl").origin)).parent / "accelerate_configs"  # type: ignore[union-attr]
    known = {"config_file": configs / f"{CONFIGS[launch['kind']]}.yaml", "num_processes": launch["n_processes"]}
    known |= {"num_machines": launch["n_machines"], "mixed_precision": "bf16" if torch.cuda.device_count() else "no"}
    if launch["n_machines"] == 1:
        known |= {"machine_rank": 0, "main_process_port": 0}  # a free one
    else:
        names = ("machine_rank", "main_process_ip", "main_process_port")
        known |= {name: os.environ[variable] for name, variable in zip(names, NODES, strict=True)}
    return [text for name, value in known.items() for text in (f"--{name}", str(value))]


def start(arguments: list[str]) -> None:
    """Run `accelerate launch` with these arguments until all processes have ended; raise what failure() returns."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ[PARENT] = str(os.getpid())
    try:
        with quiet_launcher():
            launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as error:
        raise failure(error.failures) from None
    except SignalException as error:  # it has ended the processes
        sys.exit(128 + error.sigval)
    finally:
        del os.environ[PARENT]


@contextmanager
def quiet_launcher() -> Iterator[None]:
    """A block without torch's log of failed processes, which failure() reports; restores signal handlers after it."""
    level, handlers = logging.root.manager.disable, {number: signal.getsignal(number) for number in SIGNALS}
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def failure(failures: dict[int, Any]) -> Exception:
    """Return the UserError of a process, or a RuntimeError with the traces of all that failed. failures: by rank."""
    traces: dict[int, str] = {}
    for rank, process in failures.items():
        error = process.error_file_data.get("message")
        if not isinstance(error, dict):  # it was killed, and wrote nothing
            traces[rank] = process.message
        elif error["message"].startswith(f"{UserError.__name__}: "):
            return UserError(error["message"].removeprefix(f"{UserError.__name__}: "))
        else:
            traces[rank] = error["extraInfo"]["py_callstack"]
    return RuntimeError("\n".join(f"process {rank} of the training failed: {text}" for rank, text in traces.items()))


def refuse_unequipped(launch: Launch) -> None:
    """Raise UserError where this machine lacks what the processes need."""
    import torch

    kind, n, n_machines = launch["kind"], launch["n_processes"], launch["n_machines"]
    n_gpus, missing = torch.cuda.device_count(), " and ".join(name for name in NODES if name not in os.environ)
    problems = {
        "each machine must have as many; make n_processes a multiple of n_machines": n % n_machines,
        "it needs GPUs, and there are none; only ddp runs without": kind != "ddp" and not n_gpus,
        f"{n // n_machines} GPUs are needed here, there are {n_gpus}; lower n_processes": 0 < n_gpus < n // n_machines,
        "it needs deepspeed: pip install -r requirements-gpu.in": (
            kind.startswith("zero") and importlib.util.find_spec("deepspeed") is None
        ),
        f"set {missing} on each machine, see training/distributed.py": n_machines > 1 and missing,
    }
    for problem, is_there in problems.items():
        if is_there:
            raise UserError(f"train.launch: kind {kind} with {n} processes on {n_machines} machines: {problem}")


def is_worker() -> bool:
    """Return whether this process is one of several for one training."""
    return PARENT in os.environ


def is_main() -> bool:
    """Return whether this process is the one that writes and prints."""
    return not is_worker() or os.environ["RANK"] == "0"


def agreed(make: Callable[[], T]) -> T:
    """Return in every process what `make` returns in the main one. All must call it, once TRL's arguments exist."""
    from accelerate.utils import broadcast_object_list

    values = [make() if is_main() else None]
    if is_worker():
        broadcast_object_list(values)
    return values[0]  # type: ignore[return-value]


def work(call: Path) -> None:
    """Run the pickled call in one of the processes. Its errors go into the file that its parent reads and reports."""
    from torch import distributed
    from torch.distributed.elastic.multiprocessing.errors import record

    die_with_parent()
    sys.excepthook = lambda *_: None
    if not is_main():
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    function, args, kwargs = pickle.loads(call.read_bytes())
    record(function)(*args, **kwargs)
    if distributed.is_initialized():  # a thread of torch's that outlives the interpreter would abort the process
        distributed.destroy_process_group()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(os.environ[PARENT]):  # it has ended before
        sys.exit(1)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
