"""Time and memory of stage sample on pools of 10 thousand to 10 million programs, compared with Python lists.

`make bench-sampling`. Each measurement is a process of its own that runs the whole stage (checks, draw, data sheet) on
a synthetic pool: 2 % failures, 25 % of the programs share another one's score signature, 8 instances. With lists, up to
a million programs, the draw alone:

lists     the paper's rule word by word: the pool as a sorted list, M slices, for each pair a random element of a slice
          and one of the concatenated slices below, both removed
indexed   the same without concatenation and search: elements are popped by their index
"""

import contextlib
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import duckdb

from dartune.pairs.sample import write_sample
from dartune.params import section

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
STRATEGIES = ("dar", "dar_behaviour")
N_PAIRS, ROUNDS = 2000, 3
MAX_LISTS = 1_000_000
Target = Callable[[str, Path], None]
POOL = """
copy (
    select
        'made-up-0-' || lpad(i::varchar, 8, '0') as id,
        'made-up' as task,
        if(is_ok, 'ok', 'runtime') as status,
        if(is_ok, -6 - 30 * signature / {n}, null) as score,
        if(is_ok, list_transform(range(8), lambda k: 6 + 30 * signature / {n} + chance(signature || '/' || k)), null)
            as costs,
        hash(i, 1) as text,
        hash(i, 1) as tree,
        hash(i, 2) % ({n} * 9 // 10) as shape,
        signature as score_signature,
        false as equals_template,
        printf('%016x', signature) as behaviour,
        [hash(signature, 3), hash(signature, 4)] as signature,
        300 + hash(i, 5) % 200 as n_characters,
        'loop of 0,' || hash(i, 6) % 20 as family
    from (select i, hash(i, 7) % 50 > 0 as is_ok, hash(i, 8) % ({n} * 3 // 4) as signature from range({n}) as t (i))
) to '{file}'
"""


def make_pool(n: int, file: Path) -> None:
    with duckdb.connect(config={"memory_limit": "4GB"}) as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute("create macro chance(words) as hash(words) / 18446744073709551616.0")
        connection.execute(POOL.format(n=n, file=file))


def by_stage(strategy: str, pool: Path) -> None:
    settings = section("sample", write_sample) | {"strategy": strategy, "n_pairs": N_PAIRS}
    settings["options"]["dar_behaviour"]["spread"] = 2  # what costs it most
    out = pool.parent
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        write_sample("made-up", pool, out / "pairs.parquet", out / "pairs.json", out / "pairs.md", **settings)


def subsets_of(pool: Path, n_subsets: int) -> list[list[tuple[float, str]]]:
    """Return (score, id) of the valid programs, one per score signature, best first, in equal slices."""
    import pyarrow.parquet as pq

    rows = pq.read_table(pool, columns=["id", "status", "score", "score_signature"]).to_pylist()
    distinct = {row["score_signature"]: (row["score"], row["id"]) for row in reversed(rows) if row["status"] == "ok"}
    ranked = sorted(distinct.values(), reverse=True)
    size = len(ranked) // n_subsets
    return [ranked[i * size : (i + 1) * size] for i in range(n_subsets)]


def random_subset(weights: list[float], subsets: list[list[tuple[float, str]]]) -> int:
    """Return the index of the subset that the chosen program comes from; an empty one is not drawn."""
    possible = [weight if subset else 0.0 for weight, subset in zip(weights, subsets, strict=False)]
    return random.choices(range(len(weights)), possible)[0]


def by_lists(strategy: str, pool: Path, n_subsets: int = 10, tau: float = 3.0) -> None:
    subsets = subsets_of(pool, n_subsets)
    weights = [math.exp((n_subsets - 2 - i) / tau) for i in range(1, n_subsets - 1)]
    for _ in range(N_PAIRS):
        i = random_subset(weights, subsets)
        chosen = random.choice(subsets[i])
        rejected = random.choice([program for subset in subsets[i + 2 :] for program in subset])
        subsets[i].remove(chosen)
        next(subset for subset in subsets if rejected in subset).remove(rejected)


def by_indexed_lists(strategy: str, pool: Path, n_subsets: int = 10, tau: float = 3.0) -> None:
    subsets = subsets_of(pool, n_subsets)
    weights = [math.exp((n_subsets - 2 - i) / tau) for i in range(1, n_subsets - 1)]
    for _ in range(N_PAIRS):
        i = random_subset(weights, subsets)
        (below,) = random.choices(range(i + 2, n_subsets), [len(subset) for subset in subsets[i + 2 :]])
        for subset in (subsets[i], subsets[below]):
            subset.pop(random.randrange(len(subset)))


def child(target: Target, strategy: str, pool: Path, queue: SimpleQueue[tuple[float, float]]) -> None:
    start = time.perf_counter()
    target(strategy, pool)
    queue.put((time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def measure(target: Target, strategy: str, pool: Path) -> tuple[float, float]:
    """Return the seconds and the peak GiB of a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue: SimpleQueue[tuple[float, float]] = context.SimpleQueue()
    process = context.Process(target=child, args=(target, strategy, pool, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{target.__name__} of {strategy} ended with status {process.exitcode}")
    return queue.get()


def main() -> None:
    folder = Path(tempfile.mkdtemp(dir=".work"))
    print("| programs | strategy | seconds | GiB at most | times faster than lists |\n|---|---|---|---|---|")
    seconds: dict[tuple[str, int], float] = {}
    try:
        for n in SIZES:
            pool = folder / f"{n}.parquet"
            make_pool(n, pool)
            runs: dict[str, list[tuple[float, float]]] = {}
            for _ in range(ROUNDS):  # alternating, so that both meet the same disturbances
                for strategy in STRATEGIES:
                    runs.setdefault(strategy, []).append(measure(by_stage, strategy, pool))
            if n <= MAX_LISTS:
                runs["lists"] = [measure(by_lists, "dar", pool)]
                runs["indexed"] = [measure(by_indexed_lists, "dar", pool)]
            for name, measured in runs.items():
                seconds[name, n] = statistics.median(time for time, _ in measured)
                print(line(n, name, measured, runs.get("lists")), flush=True)
            pool.unlink()
        growth(seconds)
    finally:
        shutil.rmtree(folder)


def line(n: int, name: str, measured: list[tuple[float, float]], lists: list[tuple[float, float]] | None) -> str:
    times, memory = zip(*measured, strict=True)
    median = statistics.median(times)
    spread = f" ({min(times):.2f}-{max(times):.2f})" if len(times) > 1 else ""
    ratio = f"{lists[0][0] / median:.1f}" if lists else ""
    return f"| {n:,} | {name} | {median:.2f}{spread} | {max(memory):.2f} | {ratio} |"


def growth(seconds: dict[tuple[str, int], float]) -> None:
    """Print how the time grows from one million programs to ten, and how n log n does."""
    small, large = SIZES[-2:]
    limit = large * math.log(large) / (small * math.log(small))
    for strategy in STRATEGIES:
        ratio = seconds[strategy, large] / seconds[strategy, small]
        print(json.dumps({"strategy": strategy, "growth": round(ratio, 2), "n log n": round(limit, 2)}))


if __name__ == "__main__":
    main()
