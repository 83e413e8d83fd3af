"""What a run at the paper's size costs: 60,000 programs a task, 2,000 pairs. Prints docs/scale.md's table.

    python benchmarks/cost_model.py [--programs 60000] [--pairs 2000] [--answer 300] [--prompt 400]

Measured: CPU seconds and tokens of the last run, from metrics/. Computed: bytes and FLOPs, by the formulas of
benchmarks/gpu_train.py. Assumed: the constants below, and lengths of programs.

A decoding step writes one token to each of BATCH texts and reads all weights and their keys and values once, so it
takes bytes / (BANDWIDTH x READING) seconds. Reading prompts and training are bound by arithmetic: FLOPs / (PEAK x MFU).
"""

import argparse
import json
from pathlib import Path

from gpu_train import SHAPES, backward, forward

TASKS = ("admissible_set", "tsp_construct", "cvrp_construct")
PEAK, BANDWIDTH = 989e12, 3.35e12  # an H100 SXM's data sheet: dense bf16 FLOP/s, bytes/s
MFU, READING = 0.35, 0.5  # assumed shares of them
BATCH, RANK, EPOCHS = 64, 64, 5  # of presets/llama-3.2-1b.yaml and llama-3.1-8b.yaml


def read(kind: str, task: str) -> dict[str, float]:
    content: dict[str, float] = json.loads(Path(f"metrics/{kind}/{task}.json").read_text())
    return content


def sizes(shape: dict[str, int]) -> dict[str, int]:
    """As gpu_train.sizes has them, without a model: N, A, H, L and d."""
    d, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    keys = shape["num_key_value_heads"] * shape["head_dim"]
    matrices = [(d, d), (d, keys), (d, keys), (d, d), (d, inner), (d, inner), (inner, d)]
    weights = layers * sum(a * b for a, b in matrices)
    adapters = layers * RANK * sum(a + b for a, b in matrices)
    heads = shape["num_attention_heads"] * shape["head_dim"]
    return {"N": weights, "A": adapters, "H": shape["vocab_size"] * d, "L": layers, "d": heads}


def writing_s(shape: dict[str, int], n: int, prompt: int, answer: int) -> float:
    """GPU seconds to write n answers, BATCH at a time."""
    size = sizes(shape)
    cached = 2 * 2 * size["L"] * shape["num_key_value_heads"] * shape["head_dim"]  # bytes a token, bf16
    step = 2 * (size["N"] + size["H"]) + BATCH * (prompt + answer / 2) * cached
    decoding = n / BATCH * answer * step / (BANDWIDTH * READING)
    return decoding + n * forward(size | {"A": 0}, prompt, 0) / (PEAK * MFU)


def training_s(shape: dict[str, int], pairs: int, prompt: int, answer: int) -> float:
    """GPU seconds of EPOCHS over the pairs, both sides, the reference once."""
    size = sizes(shape)
    text = prompt + answer
    once = forward(size | {"A": 0}, text, answer)
    epoch = forward(size, text, answer) + backward(size, text, answer) + forward(size, text, 0)  # checkpointing
    return 2 * pairs * (EPOCHS * epoch + once) / (PEAK * MFU)


def measured(n: int) -> None:
    print("| measured, embedded model, two cores | " + " | ".join(TASKS) + " |\n|---|---|---|---|")
    pool, pool_cost, score_cost = (
        [read(kind, task) for task in TASKS] for kind in ("pool", "resources/pool", "resources/score")
    )
    cpu = [cost["cpu_seconds"] / metrics["n_programs"] for cost, metrics in zip(score_cost, pool, strict=True)]
    rate = [metrics["n_programs"] / cost["seconds"] for cost, metrics in zip(score_cost, pool, strict=True)]
    tokens = [metrics["n_tokens"] / metrics["n_programs"] for metrics in pool]
    speed = [metrics["n_tokens"] / cost["seconds"] for cost, metrics in zip(pool_cost, pool, strict=True)]
    row("evaluations a second, stage score", rate, "{:.0f}")
    row("CPU seconds an evaluation", cpu, "{:.4f}")
    row(f"CPU hours for {n:,} evaluations", [n * seconds / 3600 for seconds in cpu], "{:.2f}")
    row("tokens a program", tokens, "{:.0f}")
    row("tokens written a second, stage pool", speed, "{:,.0f}")


def row(name: str, values: list[float], form: str) -> None:
    print(f"| {name} | " + " | ".join(form.format(value) for value in values) + " |")


def computed(n: int, pairs: int, prompt: int, answer: int) -> None:
    shapes = [SHAPES["1b"], SHAPES["8b"]]
    write = [writing_s(shape, n, prompt, answer) for shape in shapes]
    train = [training_s(shape, pairs, prompt, answer) for shape in shapes]
    print("\n| computed for one H100, a task | Llama-3.2-1B | Llama-3.1-8B |\n|---|---|---|")
    row("weights of the layers, billions", [sizes(shape)["N"] / 1e9 for shape in shapes], "{:.2f}")
    row("tokens written, millions", [n * answer / 1e6] * 2, "{:.1f}")
    row("tokens written a second", [n * answer / seconds for seconds in write], "{:,.0f}")
    row(f"GPU hours to write {n:,} programs", [seconds / 3600 for seconds in write], "{:.2f}")
    row("tokens trained on, millions", [2 * pairs * EPOCHS * (prompt + answer) / 1e6] * 2, "{:.1f}")
    row(f"GPU hours to train on {pairs:,} pairs", [seconds / 3600 for seconds in train], "{:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("programs", 60000), ("pairs", 2000), ("prompt", 400), ("answer", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    measured(given.programs)
    computed(given.programs, given.pairs, given.prompt, given.answer)


if __name__ == "__main__":
    main()
