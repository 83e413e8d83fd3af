"""Several processes train as one does, and end as one does: with one line, and with nobody left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from string import ascii_letters
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from dartune.errors import UserError
from dartune.models.checkpoint import device_map, open_model, save_model
from dartune.training import distributed
from dartune.training.distributed import Launch, agreed, in_processes, is_main, refuse_unequipped
from dartune.training.patches import GroupedByLength
from small_llama import LORA, TASK, UNPROBED, corpus, point_to_base, tune, write_llama, write_some_pairs

TWO: Launch = {"kind": "ddp", "n_processes": 2, "n_machines": 1}
ROOT = Path(__file__).parents[2]
LIMIT_S = 120  # a hang, on a machine however busy


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own; processes find this file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join(str(ROOT / part) for part in ("tests/system", "tests", "src")))


def test_two_processes_train_as_one_with_twice_their_batch(capfd: pytest.CaptureFixture[str]) -> None:
    base = point_to_base(write_llama(Path("llama")))
    # 20 pairs: 16 make 4 steps of 4, 4 are held out. No two answers begin alike: a half has no longer prefix in common.
    # Short ones: the log-probability of a whole program, some -800, has a last place of 6e-5 in single precision.
    answers = [f"{letter} = 0\n{text[:60]}" for letter, text in zip(ascii_letters, corpus(TASK, 40, 3), strict=False)]
    pairs = write_some_pairs(base, answers, held_out=0.2)
    config = UNPROBED | {"n_times": 1, "n_samples": 2}
    said: dict[str, list[str]] = {}
    for name, n, processes in (("one", 4, None), ("two", 2, TWO)):
        capfd.readouterr()
        options = {"per_device_train_batch_size": n, "learning_rate": 1e-4, "num_train_epochs": 2}
        tune(base, pairs, name, lora=LORA, probe=config, launch=processes, options=options)
        said[name] = [line.split(", ")[0] for line in capfd.readouterr().err.splitlines() if line.startswith("train ")]
    one, two = (json.loads(Path(f"{name}.json").read_text()) for name in ("one", "two"))
    assert one.pop("settings")["launch"] is None and two.pop("settings")["launch"] == TWO
    assert_close(one, two)
    assert two["steps"] == 8 and len(two["probe"]) == 2 and two["last"] and two["held_out"]
    assert_close(*(tensors(Path(name, "adapter_model.safetensors")) for name in ("one", "two")))
    assert names("one") == names("two") and names("one-plots") == names("two-plots")
    assert said["one"][1:] == said["two"][1:] and len(said["two"]) > 3  # after the memory that a step needs
    assert not list(Path(".work").glob("train/*/*"))


def tensors(file: Path) -> dict[str, list[float]]:
    from safetensors.torch import load_file

    return {name: tensor.flatten().tolist() for name, tensor in load_file(file).items()}


def assert_close(one: Any, two: Any) -> None:
    """The same but for rounding: sums of two halves are other sums."""
    if isinstance(one, dict):
        assert list(one) == list(two)
    if isinstance(one, (dict, list)):
        values = (side.values() if isinstance(side, dict) else side for side in (one, two))
        for pair in zip(*values, strict=True):
            assert_close(*pair)
    elif isinstance(one, (int, float)):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-5)
    else:
        assert two == one


def names(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


@pytest.mark.parametrize(("n_processes", "n_rows"), [(1, 4), (2, 2), (4, 1)])
def test_each_step_has_the_same_rows_however_many_processes_share_it(n_processes: int, n_rows: int) -> None:
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler

    trainer = SimpleNamespace(args=SimpleNamespace(seed=0), state=SimpleNamespace(epoch=0.0))
    lengths = [10 * (i % 7) + i for i in range(40)]
    rows = list(GroupedByLength(lengths, 4, trainer))
    batches = [
        list(BatchSamplerShard(BatchSampler(GroupedByLength(lengths, 4, trainer), n_rows, False), n_processes, i))
        for i in range(n_processes)
    ]
    assert sorted(rows) == list(range(40))
    steps = [rows[i : i + 4] for i in range(0, 40, 4)]
    assert [[row for part in parts for row in part] for parts in zip(*batches, strict=True)] == steps
    spreads = [max(lengths[row] for row in step) - min(lengths[row] for row in step) for step in steps]
    assert sum(spreads) / len(spreads) < 40  # of 99: rows of similar length together


def test_an_epoch_has_its_own_order_also_when_it_is_resumed_in_its_middle() -> None:
    trainer = SimpleNamespace(args=SimpleNamespace(seed=0), state=SimpleNamespace(epoch=None))
    sampler, orders = GroupedByLength(list(range(40)), 4, trainer), {}
    for epoch in (None, 0.5, 1.0, 1.25, 2.0):
        trainer.state.epoch = epoch
        orders[epoch] = list(sampler)
    assert orders[None] == orders[0.5] and orders[1.0] == orders[1.25]
    assert len({tuple(order) for order in orders.values()}) == 3


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
def test_gathered_weights_are_saved_as_those_of_a_whole_model(lora: dict[str, Any] | None) -> None:
    from peft import LoraConfig, get_peft_model

    model = open_model(point_to_base(write_llama(Path("llama"))))
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora)) if lora else model
    save_model(model, Path("whole"))
    save_model(model, Path("gathered"), model.state_dict())
    assert names("whole") == names("gathered")
    for name in names("whole"):
        assert Path("whole", name).read_bytes() == Path("gathered", name).read_bytes(), name


# What follows runs in the processes: they find it by its name.
@in_processes
def tell(*, launch: Launch | None) -> None:
    from accelerate import PartialState

    PartialState(cpu=True)
    print(f"said by {os.environ['RANK']}")
    state = {"agreed": agreed(lambda: os.getpid()), "pid": os.getpid(), "is_main": is_main()}
    Path(f"{os.environ['RANK']}.json").write_text(json.dumps(state))


@in_processes
def fail(how: str, *, launch: Launch | None) -> None:
    from accelerate import PartialState

    state = PartialState(cpu=True)
    if os.environ["RANK"] == "1":
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("pairs: none\n are here") if how == "mistaken" else ZeroDivisionError("a fault")
    state.wait_for_everyone()


@in_processes
def sleep(*, launch: Launch | None) -> None:
    Path(os.environ["RANK"]).write_text(str(os.getpid()))
    time.sleep(10 * LIMIT_S)


def test_the_main_process_decides_and_it_alone_prints(capfd: pytest.CaptureFixture[str]) -> None:
    tell(launch=TWO)
    main, other = (json.loads(Path(f"{rank}.json").read_text()) for rank in (0, 1))
    assert main["agreed"] == other["agreed"] == main["pid"] != other["pid"]
    assert (main["is_main"], other["is_main"]) == (True, False)
    assert capfd.readouterr().out == "said by 0\n"
    assert distributed.PARENT not in os.environ and is_main()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("crashed", r"process 1 of the training failed: Traceback[\s\S]*ZeroDivisionError: a fault"),
        ("killed", r"process 1 of the training failed: Signal 9 \(SIGKILL\)"),
    ],
)
def test_what_ends_one_process_ends_all_and_is_told_once(
    how: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(number) for number in distributed.SIGNALS]
    with pytest.raises(RuntimeError, match=message):
        fail(how, launch=TWO)
    assert [signal.getsignal(number) for number in distributed.SIGNALS] == handlers
    assert "Traceback" not in capfd.readouterr().err and not children()


def children() -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if "dartune.training.distributed" in " ".join(process.cmdline())
    ]


SCRIPT = "from dartune.errors import one_line; import test_distributed as t; one_line(lambda: t.{})()"


def started(call: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT.format(call)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_user_error_in_a_process_is_the_one_line_of_the_stage() -> None:
    process = started("fail('mistaken', launch=t.TWO)")
    out, err = process.communicate(timeout=LIMIT_S)
    assert (out, err, process.returncode) == ("", "pairs: none are here\n", 1)


@pytest.mark.parametrize(("how", "status"), [("KILL", -9), ("TERM", 128 + 15)])
def test_no_process_outlives_the_stage_that_started_it(how: str, status: int) -> None:
    process = started("sleep(launch=t.TWO)")
    wait(lambda: all(Path(rank).exists() and Path(rank).read_text() for rank in "01"))
    ranks = [psutil.Process(int(Path(rank).read_text())) for rank in "01"]
    process.send_signal(getattr(signal, f"SIG{how}"))
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == status
    wait(lambda: not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks))


def wait(condition: Any) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


EXPECTED: dict[str, dict[str, Any]] = {
    "ddp": {"multi_gpu": True, "use_fsdp": False, "use_deepspeed": False},
    "fsdp2": {"use_fsdp": True, "fsdp_version": 2, "fsdp_state_dict_type": "FULL_STATE_DICT"},
    "zero2": {"use_deepspeed": True, "zero_stage": 2},
    "zero3": {"use_deepspeed": True, "zero_stage": 3, "zero3_init_flag": True, "zero3_save_16bit_model": True},
}


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("n_machines", [1, 2])
def test_accelerate_reads_the_kind_and_the_numbers_out_of_our_options(
    kind: Any, n_machines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    for name, value in (("NODE_RANK", "1"), ("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)
    options = distributed.options({"kind": kind, "n_processes": 8, "n_machines": n_machines})
    parsed, config, _ = _validate_launch_command(
        launch_command_parser().parse_args([*options, "--module", "dartune.training.distributed", "call"])
    )
    assert config.distributed_type.value == {"ddp": "MULTI_GPU", "fsdp2": "FSDP"}.get(kind, "DEEPSPEED")
    assert {name: getattr(parsed, name) for name in EXPECTED[kind]} == EXPECTED[kind]
    assert (parsed.num_processes, parsed.num_machines, parsed.mixed_precision) == (8, n_machines, "no")
    if n_machines == 1:
        assert (parsed.machine_rank, parsed.main_process_port) == (0, 0)  # 0: a free port
    else:
        assert (parsed.machine_rank, parsed.main_process_ip, parsed.main_process_port) == (1, "10.0.0.1", 29500)
    assert (parsed.module, parsed.training_script, parsed.training_script_args) == (
        True,
        "dartune.training.distributed",
        ["call"],
    )


UNEQUIPPED: dict[str, tuple[str, int, int, str]] = {
    "uneven": ("ddp", 5, 2, r"with 5 processes on 2 machines: each machine must have as many"),
    "no GPU": ("zero2", 2, 1, r"kind zero2 .* needs GPUs, and there are none; only ddp runs without"),
    "no address": ("ddp", 4, 2, r"set NODE_RANK and MASTER_ADDR and MASTER_PORT on each machine"),
}


@pytest.mark.parametrize(("kind", "n", "n_machines", "message"), UNEQUIPPED.values(), ids=UNEQUIPPED)
def test_what_this_machine_cannot_do_is_refused_before_a_process_starts(
    kind: Any, n: int, n_machines: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        refuse_unequipped({"kind": kind, "n_processes": n, "n_machines": n_machines})


def test_without_a_gpu_a_model_is_on_the_cpu_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_map() == "cpu"
