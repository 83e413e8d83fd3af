"""Several processes for one training, by accelerate and TRL's settings for it: on GPUs, or on this machine's cores.

What is given as per-device batch counts in each process, so n_processes times as many rows make one step. The last
step of an epoch is filled up with rows of its first one where they do not come out even.

On several machines the same command (that of stage train in dvc.yaml) is run on each, in a folder that they share, with
NODE_RANK (0 where files are written), MASTER_ADDR and MASTER_PORT set, as for torchrun. Only "ddp" runs without GPUs.
"""

import importlib.util
import logging
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, PositiveInt
from typing_extensions import TypedDict

from dartune.errors import UserError
from dartune.files.batches import WORK
from dartune.files.scratch import remove_leftovers, unique_name
from dartune.referee.sandbox import die_with_parent

CONFIGS = {"ddp": "multi_gpu", "fsdp2": "fsdp2", "zero2": "zero2", "zero3": "zero3"}  # files of trl/accelerate_configs
SHARDED = ("fsdp2", "zero3")  # no process has the whole model
NODES = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # that torch's launcher handles
PARENT = "DARTUNE_LAUNCHER"  # its process id; a process has this variable if it is one of several
T = TypeVar("T")


class Launch(TypedDict):
    """kind: "ddp" has the whole model in each process; "zero2" shares out gradients and optimiser, "zero3" and "fsdp2"
    the weights too. n_processes: in all, one a GPU. n_machines: that share them equally.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]
    kind: Literal["ddp", "fsdp2", "zero2", "zero3"]
    n_processes: Annotated[int, Field(ge=2)]
    n_machines: PositiveInt


def in_processes(function: Callable[..., None]) -> Callable[..., None]:
    """The function, called in each of the processes that its keyword `launch` asks for; None: here.

    A UserError in any of them is raised here, once, and ends the others.
    """

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> None:
        if kwargs["launch"] is None or is_worker():
            return function(*args, **kwargs)
        refuse_unequipped(kwargs["launch"])
        with own_folder() as folder:
            call = folder / "call.pickle"
            call.write_bytes(pickle.dumps((called, args, kwargs)))
            start(
                [
                    *options(kwargs["launch"]),
                    "--log_dir",
                    str(folder),
                    "--module",
                    "dartune.training.distributed",
                    str(call),
                ]
            )

    return called


@contextmanager
def own_folder() -> Iterator[Path]:
    """Gone after the block; that of a killed process is removed by the next one."""
    remove_leftovers((WORK / "launch").glob("*"))
    folder = WORK / "launch" / unique_name()
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def options(launch: Launch) -> list[str]:
    """Of `accelerate launch`, before the script."""
    configs = Path(str(importlib.util.find_spec("trl").origin)).parent / "accelerate_configs"  # type: ignore[union-attr]
    known = {"config_file": configs / f"{CONFIGS[launch['kind']]}.yaml", "num_processes": launch["n_processes"]}
    known |= {"num_machines": launch["n_machines"], "mixed_precision": "bf16" if n_gpus() else "no"}
    if launch["n_machines"] == 1:
        known |= {"machine_rank": 0, "main_process_port": 0}  # a free one
    else:
        names = ("machine_rank", "main_process_ip", "main_process_port")
        known |= {name: os.environ[variable] for name, variable in zip(names, NODES, strict=True)}
    return [text for name, value in known.items() for text in (f"--{name}", str(value))]


def start(arguments: list[str]) -> None:
    """Run `accelerate launch` with these arguments, until all processes have ended."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ[PARENT] = str(os.getpid())
    try:
        with as_before():
            launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as error:
        raise failure(error.failures) from None
    except SignalException as error:  # it has ended the processes
        sys.exit(128 + error.sigval)
    finally:
        del os.environ[PARENT]


@contextmanager
def as_before() -> Iterator[None]:
    """Without torch's own account of processes that failed, which failure() gives; then with the handlers of before."""
    level, handlers = logging.root.manager.disable, {each: signal.getsignal(each) for each in SIGNALS}
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(level)
        for each, handler in handlers.items():
            signal.signal(each, handler)


def failure(failures: dict[int, Any]) -> Exception:
    """The UserError that a process met, else all that is known of those that failed. failures: by rank."""
    known: dict[int, str] = {}
    for rank, each in failures.items():
        told = each.error_file_data.get("message")
        if not isinstance(told, dict):  # it was killed, and wrote nothing
            known[rank] = each.message
        elif told["message"].startswith(f"{UserError.__name__}: "):
            return UserError(told["message"].removeprefix(f"{UserError.__name__}: "))
        else:
            known[rank] = told["extraInfo"]["py_callstack"]
    return RuntimeError("\n".join(f"process {rank} of the training failed: {text}" for rank, text in known.items()))


def n_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def refuse_unequipped(launch: Launch) -> None:
    """Mistakes about what this machine has."""
    kind, n_here = launch["kind"], launch["n_processes"] // launch["n_machines"]
    where = f"train.launch: kind {kind} with {launch['n_processes']} processes on {launch['n_machines']} machines"
    if launch["n_processes"] % launch["n_machines"]:
        raise UserError(f"{where}: each machine must have as many; make n_processes a multiple of n_machines")
    if kind != "ddp" and not n_gpus():
        raise UserError(f"{where} needs GPUs, and there are none; only ddp runs without")
    if 0 < n_gpus() < n_here:
        raise UserError(f"{where}: {n_here} GPUs are needed here, there are {n_gpus()}; lower n_processes")
    if kind.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        raise UserError(f"{where} needs deepspeed: pip install -r requirements-gpu.in")
    missing = [name for name in NODES if name not in os.environ]
    if launch["n_machines"] > 1 and missing:
        raise UserError(f"{where}: set {' and '.join(missing)} on each machine, see src/dartune/launch.py")


def refuse_unfit(launch: Launch | None, is_online: bool, is_watched: bool, load_in: str | None) -> None:
    """Mistakes about what a kind cannot do."""
    kind = launch["kind"] if launch else "ddp"
    if is_online and kind != "ddp":
        raise UserError(f"train.launch: {kind} cannot write programs on the way, as grpo and rloo do; take ddp")
    if is_watched and kind in SHARDED:
        raise UserError(
            f"train.launch: with {kind} no process has the whole model to watch; set train.watch.n_times: 0"
        )
    if load_in and kind in SHARDED:
        raise UserError(
            f"train.launch: {kind} cannot share out weights of {load_in}; set train.load_in: null or take ddp"
        )


def is_worker() -> bool:
    return PARENT in os.environ


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return not is_worker() or os.environ["RANK"] == "0"


def agreed(make: Callable[[], T]) -> T:
    """What the main process makes, in every process. All must call it, once TRL's arguments exist."""
    from accelerate.utils import broadcast_object_list

    found = [make() if is_main() else None]
    if is_worker():
        broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]


def work(call: Path) -> None:
    """What each process does. Its errors go into the file that its parent reads, and are told there."""
    from torch.distributed.elastic.multiprocessing.errors import record

    die_with_parent()
    if os.getppid() != int(os.environ[PARENT]):  # it has died before
        sys.exit(1)
    sys.excepthook = lambda *_: None
    if not is_main():
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    function, args, kwargs = pickle.loads(call.read_bytes())
    record(function)(*args, **kwargs)
    part()


def part() -> None:
    """Leave the others in order: a thread of torch's that asks for the interpreter at its end aborts the process."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
