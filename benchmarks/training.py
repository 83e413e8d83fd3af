"""Tokens a second, memory and loss of our DPO beside TRL's defaults and TRL set with care: same model, pairs, loss.

`make bench-train`. On the CPU, each arm in a process of its own, in turns; the embedded model with one thread. With
--base models/base (`make bench-train PAIRS=data/pairs/TASK.parquet`) a real model, whose adapter, number format and
threads are those of stage train, by one epoch; --n-pairs takes so many of the training pairs, as a step of TRL's takes
most of a minute there.

defaults  what a plain script writes (RayZhhh/dpo-aad, train_cuda/train_dpo.py): TRL's defaults, so activation
          checkpointing, the reference's log-probabilities anew in each step, pairs in random order, those of a step at
          once; with LoRA a ready PeftModel
careful   TRL as its documentation lets a careful user set it (careful_trl.py), with our number of pairs at once
ours      the trainer of stage train

Tokens are those of both sides of each pair, prompts twice, padding left out.

whole       from before the model is opened to the end of train(), so with the reference's log-probabilities where they
            are computed once, our checkpoints every ten steps, progress and curves; without imports, which are the same
steady      the epochs after the first, nan where there is one
CPU         as whole, but seconds of the process on a processor, which a busy machine disturbs less
MiB         the most that the process held, above what it held before the model was opened
loss        mean of all training steps, and of the held-out pairs at the end
same order  one epoch of defaults and ours in one random order, a step's pairs at once, ours without grouping by length:
            what is left is rounding
"""

import argparse
import json
import math
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import careful_trl

TASK, BASE, PAIRS = "tsp_construct", Path("models/embedded"), Path("data/pairs/tsp_construct.parquet")
REAL = "as stage train, 1 epoch"  # the case of a real model
LORA = {"r": 64, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"}
CASES: dict[str, dict[str, Any]] = {
    "all weights, 5 epochs": {"epochs": 5, "lora": None},
    "all weights, 2 epochs": {"epochs": 2, "lora": None},
    "LoRA r 64, 5 epochs": {"epochs": 5, "lora": LORA},
}
SAME_ORDER = {"epochs": 1, "lora": None, "same_order": True}
TOLERANCE = 0.03  # of the median loss, where the order is another one
ROUNDING = 1e-4  # of the loss, where the order is the same
SHARED: tuple[str, ...] = (
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "beta",
)
SHARED += ("loss_type", "loss_weights", "label_smoothing", "f_divergence_type")


def settings(seed: int, epochs: float) -> dict[str, Any]:
    """Section train with its DPO options, as params.yaml and its preset have them."""
    from dartune import params
    from dartune.training.train import write_tuned
    from dartune.training.trainers import options

    dpo = options("dpo") | {"num_train_epochs": epochs}
    return params.section("train", write_tuned) | {"seed": seed, "method": "dpo", "patience": None, "dpo": dpo}


def at_once(options: dict[str, Any]) -> dict[str, Any]:
    """The options with a step's pairs in one batch."""
    size = options["per_device_train_batch_size"] * options["gradient_accumulation_steps"]
    return options | {"per_device_train_batch_size": size, "gradient_accumulation_steps": 1}


def real(base: Path, n_pairs: int | None) -> dict[str, Any]:
    """The case of a real model. n_pairs: of those that train."""
    from dartune.models.host import run_settings

    threads = run_settings(base)["threads"]
    return {"epochs": 1, "lora": settings(0, 1)["lora"], "base": base, "threads": threads, "n_pairs": n_pairs}


def ours(rows: list[dict[str, Any]], work: Path, seed: int, case: dict[str, Any]) -> Any:
    from dartune.training.train import new_trainer
    from dartune.training.trainers import TrainingInputs

    section = settings(seed, case["epochs"]) | {"lora": case["lora"], "load_in": None}
    if case.get("same_order"):
        section["dpo"] = at_once(section["dpo"])
    return new_trainer(TrainingInputs(TASK, rows, case.get("base", BASE), None, work, section, None), work / "plots")


def stock(rows: list[dict[str, Any]], work: Path, seed: int, case: dict[str, Any], is_careful: bool) -> Any:
    """TRL's trainer, with its defaults or set with care."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    from dartune.models.checkpoint import number_format, open_model, open_tokenizer
    from dartune.training.trainers import COMMON

    base = case.get("base", BASE)
    is_bf16 = number_format(base) == torch.bfloat16

    section = settings(seed, case["epochs"])
    options = section["dpo"] if is_careful and not case.get("same_order") else at_once(section["dpo"])
    same = {name: options[name] for name in SHARED} | {name: section[name] for name in (*COMMON, "max_length")}
    chosen = careful_trl.settings(on_gpu=False) if is_careful else {}
    arguments = DPOConfig(output_dir=str(work), use_cpu=True, bf16=is_bf16, disable_tqdm=True, **same | chosen)
    model, tokenizer = open_model(base), open_tokenizer(base)
    lora = LoraConfig(task_type="CAUSAL_LM", **case["lora"]) if case["lora"] else None
    if is_careful:
        rows = sorted(rows, key=length, reverse=True)
    columns = ("prompt", "chosen", "rejected")
    parts = [
        [{name: row[name] for name in columns} | {"length": length(row)} for row in rows if row["is_held_out"] == part]
        for part in (False, True)
    ]
    collate = DataCollatorForPreference(tokenizer.pad_token_id, section["max_length"])
    return DPOTrainer(
        model=get_peft_model(model, lora) if lora and not is_careful else model,
        args=arguments,
        data_collator=careful_trl.WithoutMask(collate) if is_careful else collate,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(parts[0]),
        eval_dataset=Dataset.from_list(parts[1]),
        peft_config=lora if is_careful else None,
    )


ARMS: dict[str, Callable[..., Any]] = {
    "defaults": partial(stock, is_careful=False),
    "careful": partial(stock, is_careful=True),
    "ours": ours,
}


def child(arm: str, case: dict[str, Any], seed: int, pairs: Path, queue: Any) -> None:
    """Puts what one training took and came to."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import datasets  # noqa: F401
    import pyarrow.parquet as pq
    import torch
    import trl.trainer.dpo_trainer  # noqa: F401

    import dartune.training.train  # noqa: F401

    torch.set_num_threads(case.get("threads", 1))
    rows = pq.read_table(pairs).to_pylist()
    trained = [row for row in rows if not row["is_held_out"]][: case.get("n_pairs")]
    rows = trained + [row for row in rows if row["is_held_out"]]
    if case.get("same_order"):
        rows.sort(key=length, reverse=True)
    work = Path(tempfile.mkdtemp(dir=".work"))
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            queue.put(measure(arm, case, rows, work, seed))
    finally:
        shutil.rmtree(work)


def length(row: dict[str, Any]) -> int:
    return int(row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]))


def tokens(row: dict[str, Any]) -> int:
    """Of both sides, the prompt twice."""
    return int(2 * row["prompt_tokens"] + row["chosen_tokens"] + row["rejected_tokens"])


def measure(arm: str, case: dict[str, Any], rows: list[dict[str, Any]], work: Path, seed: int) -> dict[str, float]:
    from transformers import TrainerCallback, set_seed

    from dartune.training.patches import plain_adapter_inputs

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    trained = [row for row in rows if not row["is_held_out"]]
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    set_seed(seed)
    trainer = ARMS[arm](rows, work, seed, case)
    if case.get("same_order"):
        trainer.args.train_sampling_strategy = "random"
    trainer.add_callback(Clock())
    is_careful = case.get("base") and arm == "careful"
    with plain_adapter_inputs(trainer.model) if arm == "ours" or is_careful else nullcontext():
        loss = trainer.train().training_loss
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak, n_tokens = memory("VmHWM") - before, case["epochs"] * sum(map(tokens, trained))
    share = 1 - 1 / case["epochs"]  # of the tokens, after the first epoch
    steady = n_tokens * share / (ends[-1] - ends[0]) if share else math.nan
    held_out = trainer.evaluate()["eval_loss"]
    return {"whole": n_tokens / seconds, "steady": steady, "cpu": n_tokens / cpu, "mib": peak} | {
        "seconds": seconds,
        "cpu_s": cpu,
        "n_tokens": n_tokens,
        "loss": loss,
        "held_out": held_out,
    }


def memory(name: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0]) / 1024


def run(arm: str, case: dict[str, Any], seed: int, pairs: Path) -> dict[str, float]:
    """The measurements of one training in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(arm, case, seed, pairs, queue))
    process.start()
    while process.is_alive() and queue.empty():
        time.sleep(0.1)
    if queue.empty():
        raise SystemExit(f"{arm} ended with status {process.exitcode}")
    result: dict[str, float] = queue.get()
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--pairs", type=Path, default=PAIRS)
    parser.add_argument("--base", type=Path, help="models/base, where the preset is a real model's")
    parser.add_argument("--n-pairs", type=int, help="of the training pairs, with --base; all by default")
    arguments = parser.parse_args()
    Path(".work").mkdir(exist_ok=True)
    if arguments.base:
        CASES[REAL] = real(arguments.base, arguments.n_pairs)
        arguments.cases = [REAL]
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    for seed in range(arguments.rounds):
        for name in arguments.cases:
            for arm in sorted(ARMS, reverse=bool(seed % 2)):  # in turns, and in turns who is first
                results.setdefault((name, arm), []).append(run(arm, CASES[name], seed, arguments.pairs))
                print(json.dumps({"case": name, "arm": arm, "seed": seed} | results[name, arm][-1]), file=sys.stderr)
    table(arguments.cases, results)
    ratios(arguments.cases, results)
    losses(arguments.cases, results)
    if not arguments.base:
        rounding(arguments.pairs)


def table(cases: list[str], results: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    print("| | | tokens/s, whole | steady | a CPU second | MiB | loss | held-out loss |\n" + "|---" * 8 + "|")
    for name in cases:
        for arm in ARMS:
            cells = [shown(results[name, arm], key, 0) for key in ("whole", "steady", "cpu", "mib")]
            cells += [shown(results[name, arm], key, 4) for key in ("loss", "held_out")]
            print(f"| {name} | {arm} | {' | '.join(cells)} |")


def shown(runs: list[dict[str, float]], key: str, digits: int) -> str:
    """Median and range."""
    values = [run[key] for run in runs]
    low, high = min(values), max(values)
    return f"{statistics.median(values):,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def ratios(cases: list[str], results: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    print("\n| by round | | whole | steady | a CPU second | MiB |\n" + "|---" * 6 + "|")
    for name in cases:
        for arm in ("defaults", "careful"):
            pairs = zip(results[name, "ours"], results[name, arm], strict=True)
            by_round = [
                {key: mine[key] / other[key] for key in ("whole", "steady", "cpu", "mib")} for mine, other in pairs
            ]
            cells = [shown(by_round, key, 2) for key in ("whole", "steady", "cpu", "mib")]
            print(f"| {name} | ours / {arm} | {' | '.join(cells)} |")


def losses(cases: list[str], results: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    """Are the losses the same within TOLERANCE?"""
    print()
    for name in cases:
        for arm in ("defaults", "careful"):
            for key in ("loss", "held_out"):
                mine, other = (statistics.median(run[key] for run in results[name, side]) for side in ("ours", arm))
                off = mine / other - 1
                within = "within" if abs(off) <= TOLERANCE else "NOT WITHIN"
                print(f"{name}: {key}, ours beside {arm}: {off:+.2%}, {within} {TOLERANCE:.0%}")


def rounding(pairs: Path) -> None:
    mine, other = (run(arm, SAME_ORDER, 0, pairs) for arm in ("ours", "defaults"))
    for key in ("loss", "held_out"):
        off = mine[key] / other[key] - 1
        print(f"same order: {key} {off:+.6%}, {'within' if abs(off) <= ROUNDING else 'NOT WITHIN'} {ROUNDING:.2%}")


if __name__ == "__main__":
    main()
