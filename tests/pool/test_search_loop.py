"""A search as a whole, with the real referee: its rows, its journal, kills, and models that write nonsense."""

import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from dartune import params
from dartune.base_model.base import new_network, plain, train_tokenizer
from dartune.errors import UserError
from dartune.files import modules
from dartune.models.backend import Completion, Decoding
from dartune.pool import pool
from dartune.pool.ask_tell import methods
from dartune.pool.pool import open_backend, write_pool
from dartune.pool.prompts import renamed
from dartune.pool.search_loop import TEMPLATE_ID, SearchSpec, run_searches
from dartune.programs.verdict import STATUSES
from dartune.referee.referee import Referee, write_referee
from dartune.tasks.task import Task

TASK = Task("tsp_construct")
NAME = TASK.function
DECODING = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=256)
OPTIONS: dict[str, dict[str, Any]] = {
    "independent": {},
    "climb": {"n_children": 6},
    "eoh": {"population": 6, "n_parents": 2},
    "funsearch": {"n_islands": 2, "n_prompts": 2, "n_samples": 3, "n_versions": 2}
    | {"temperature": 0.1, "period": 100, "reset_every": 20},
}
SEARCHES = [name for name in OPTIONS if name != "independent"]
LIMITS: dict[str, Any] = {"max_slowdown": 1.0, "memory_mib": 256}
JUDGES = {"climb": True, "eoh": True, "funsearch": True, "independent": False}
POOL: dict[str, Any] = {"source": "unused", "method": "eoh", "n_programs": 36, "batch_size": 12, "seed": 0} | asdict(
    DECODING
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code may catch it."""


class Replaying:
    """A back end whose completions hang on the prompt and the seed alone: mostly programs of the grammar, some broken.

    asked: sizes of the batches that were asked for. counted: how many completions were told to be finished.
    """

    prices = (1.0, 2.0)

    def __init__(self, revision: str = "replayed", write: Callable[[str, Random], str] | None = None) -> None:
        self.revision, self._write = revision, write or text
        self.asked: list[int] = []
        self.counted = 0
        self.die_at: int | None = None

    def complete(self, prompts: list[str], *, seed: int, decoding: Decoding) -> list[Completion]:
        if len(self.asked) == self.die_at:
            raise Killed
        self.asked.append(len(prompts))
        texts = [self._write(prompt, Random(f"{seed}/{i}/{prompt}")) for i, prompt in enumerate(prompts)]
        return [Completion(each, len(prompt), len(each), "stop") for prompt, each in zip(prompts, texts, strict=True)]

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        self.counted += len(prompts)


def text(prompt: str, rng: Random) -> str:
    """A program of the grammar under the name that the prompt asks for, or one of three failures."""
    program = TASK.grammar.draw(rng)
    failures = ["I would take the nearest city.", f"def {NAME}(a, b:\n", program.replace("return", "return no +")]
    kind = rng.randrange(10)
    if kind < len(failures):
        return failures[kind]
    asked = re.findall(rf"^def {NAME}(?:_v(\d+))?\(", prompt, re.MULTILINE)[-1]
    return f"{{Idea {rng.randrange(100)}.}}\n```python\n{renamed(program, NAME, asked) if asked else program}```\n"


@pytest.fixture(scope="module")
def referee(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Referee]:
    """One for all tests of this file, so that no program runs twice."""
    with ExitStack() as stack:
        with chdir(tmp_path_factory.mktemp("referee")):
            opened = stack.enter_context(Referee(TASK, "train", **LIMITS))
        yield opened


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def explored(
    name: str, backend: Any, referee: Referee | None, *, n: int = 36, seed: int = 0, **changed: Any
) -> list[dict[str, Any]]:
    """The rows of a search without the seconds that they took. Finished ones are kept in the folder `kept`."""
    options, decoding = changed.get("options", OPTIONS[name]), changed.get("decoding", DECODING)
    spec = SearchSpec(TASK, name, options, n, [seed], decoding, 6 if name == "independent" else None)
    table = run_searches("pool t", spec, backend, referee, Path("kept"), rules=changed.get("rules"))
    return list(table.drop_columns("seconds").to_pylist())


# ---- rows


@pytest.fixture(scope="module")
def found(referee: Referee, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """40 rows of each method: the last batch is not full."""
    with chdir(tmp_path_factory.mktemp("found")):
        return {name: explored(name, Replaying(), referee, n=40) for name in methods()}


@pytest.mark.parametrize("name", methods())
def test_each_evaluation_is_a_row_with_its_number_and_generation(name: str, found: Any) -> None:
    rows = found[name]
    assert [row["id"] for row in rows] == [f"tsp_construct-0-{i:06d}" for i in range(40)]
    assert [row["generation"] for row in rows] == [i // 6 for i in range(40)]  # all four write 6 at a time


@pytest.mark.parametrize("name", methods())
def test_a_row_has_the_programs_verdict_or_the_reason_why_there_is_none(name: str, found: Any, referee: Any) -> None:
    statuses = set()
    for row in found[name]:
        assert (row["score"] is None) == (row["costs"] is None) == (row["status"] != "ok") == (row["reason"] != "")
        assert row["status"] in STATUSES and (row["program"] is None) == (row["status"] in ("no_program", "syntax"))
        statuses.add(row["status"])
    assert statuses >= {"ok", "no_program", "syntax", "runtime"}
    valid = [row for row in found[name] if row["status"] == "ok"]
    for row, verdict in zip(valid, referee.judge([row["program"] for row in valid]), strict=True):
        assert (row["score"], tuple(row["costs"])) == (verdict.score, verdict.costs)


@pytest.mark.parametrize("name", SEARCHES)
def test_each_parent_is_the_template_or_a_valid_row_of_an_earlier_batch(name: str, found: Any) -> None:
    earlier: dict[str, int] = {TEMPLATE_ID: -1}
    for row in found[name]:
        assert all(earlier[parent] < row["generation"] for parent in row["parents"])
        if row["status"] == "ok":
            earlier[row["id"]] = row["generation"]
    assert any(parent != TEMPLATE_ID for row in found[name] for parent in row["parents"])


@pytest.mark.parametrize("name", SEARCHES)
def test_the_programs_of_the_parents_stand_in_the_prompt_in_order(name: str, found: Any) -> None:
    programs = {row["id"]: row["program"] for row in found[name]}
    for row in found[name]:
        blocks = row["prompt"].split("```python\n")[1:]
        assert len(blocks) == len(row["parents"]) + 1
        for i, (parent, block) in enumerate(zip(row["parents"], blocks, strict=False)):
            shown = block.split("```")[0].replace(f"{NAME}_v{i}", NAME)
            if parent == TEMPLATE_ID:
                assert '"""' not in shown and shown.endswith("return unvisited_nodes[0]\n")
            else:
                assert shown == programs[parent]
        assert blocks[-1].count('"""') == 2  # what is asked for has its docstring


def test_the_operations_are_those_of_the_method(found: Any) -> None:
    operations = {name: [row["operation"] for row in found[name]] for name in methods()}
    assert set(operations["independent"]) == {"sample"} and set(operations["funsearch"]) == {"version"}
    assert operations["climb"] == ["m1", "m2"] * 20
    assert operations["eoh"] == ["i1"] * 12 + ["e1"] * 6 + ["e2"] * 6 + ["m1"] * 6 + ["m2"] * 6 + ["e1"] * 4
    assert {row["island"] for row in found["funsearch"]} == {0, 1}
    assert {row["island"] for name in ("independent", "climb", "eoh") for row in found[name]} == {-1}


def test_a_thought_is_shown_with_its_program(found: Any) -> None:
    rows = {row["id"]: row for row in found["eoh"]}
    for row in found["eoh"][12:]:
        for number, parent in enumerate(row["parents"], 1):
            thought = re.findall("{(Idea .*)}", rows[parent]["completion"])[0]
            assert f"\n\nProgram {number}. {thought}\n```python\n" in row["prompt"]


@pytest.mark.parametrize("name", methods())
def test_the_same_seed_gives_the_same_rows_and_another_one_others(name: str, found: Any, referee: Any) -> None:
    backend = Replaying()
    assert explored(name, backend, referee, n=40) == found[name]
    assert sum(backend.asked) == 40
    others = explored(name, Replaying(), referee, n=40, seed=1)
    assert {row["completion"] for row in others} != {row["completion"] for row in found[name]}
    assert {row["id"] for row in others}.isdisjoint(row["id"] for row in found[name])


def test_sampling_needs_no_referee_and_judges_nothing() -> None:
    rows = explored("independent", Replaying(), None)
    judged = ("program", "status", "reason", "score", "costs", "behaviour", "signature", "missing_layers")
    assert {row[name] for row in rows for name in judged} == {None}
    assert {row["prompt"] for row in rows} == {TASK.prompt}
    assert not Path(".work/verdicts").exists()


def test_every_finished_completion_is_counted_also_those_of_an_earlier_run(referee: Referee) -> None:
    first, second = Replaying(), Replaying()
    first.die_at = 4
    with pytest.raises(Killed):
        explored("eoh", first, referee)
    explored("eoh", second, referee)
    assert (first.counted, second.counted) == (24, 36)


# ---- the pool


@pytest.fixture
def rules() -> Path:
    write_referee(TASK.name, JUDGES, Path("rules"), **LIMITS, cluster=None)
    return Path("rules")


def written(backend: Any, rules: Path, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> bytes:
    """The bytes of a pool that write_pool writes with this back end."""
    settings = POOL | changed
    name = settings["method"]
    monkeypatch.setattr(pool, "open_backend", lambda source: backend)
    outputs = Path("pool.parquet"), Path("pool.json")
    write_pool(TASK.name, rules / f"{name}.json", OPTIONS[name], *outputs, **settings)
    return outputs[0].read_bytes()


def test_a_pool_has_the_same_bytes_with_the_same_seed_and_others_with_another(
    rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, same = (written(Replaying(), rules, monkeypatch) for _ in range(2))
    assert one == same != written(Replaying(), rules, monkeypatch, seed=1)


def test_a_pool_says_what_decided_it_and_what_it_cost(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(Replaying(), rules, monkeypatch)
    table = pq.read_table("pool.parquet")
    assert table.schema == pool.POOL_SCHEMA
    decided = {name: set(table[name].to_pylist()) for name in ("task", "method", "model", "seed", "max_new_tokens")}
    assert decided == {
        "task": {"tsp_construct"},
        "method": {"eoh"},
        "model": {"replayed"},
        "seed": {0},
        "max_new_tokens": {256},
    }
    # the back end counts characters, at 1.0 and 2.0 a million
    n_prompt, n = (sum(map(len, table[name].to_pylist())) for name in ("prompt", "completion"))
    assert json.loads(Path("pool.json").read_text()) == {
        "n_programs": 36,
        "n_prompt_tokens": n_prompt,
        "n_tokens": n,
        "money": round((n_prompt + 2 * n) / 1e6, 6),
        "finish": {"stop": 36},
    }


def test_a_sampled_pool_starts_no_referee(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Replaying()
    written(backend, rules, monkeypatch, method="independent", batch_size=10)
    assert backend.asked == [10, 10, 10, 6]
    assert not Path(".work/verdicts").exists()


def test_a_finished_pool_leaves_no_journal(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(Replaying(), rules, monkeypatch)
    assert list(Path(".work").rglob("*.parquet")) == []


def test_a_pool_of_no_programs_is_refused() -> None:
    section = params.everything(Path(__file__).parents[2] / "params.yaml")["pool"]
    for n in (0, -1, 1.5):
        with pytest.raises(UserError, match=re.escape(f"pool.n_programs is {n}: input should be")):
            params.check("pool", section | {"n_programs": n}, write_pool)


# ---- the journal


@pytest.fixture(scope="module")
def undisturbed(referee: Referee, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """36 rows, six batches, of each search."""
    with chdir(tmp_path_factory.mktemp("undisturbed")):
        return {name: explored(name, Replaying(), referee) for name in SEARCHES}


def interrupted(name: str, referee: Referee, at: int) -> Path:
    """The journal of a run that was killed in this batch."""
    backend = Replaying()
    backend.die_at = at
    with pytest.raises(Killed):
        explored(name, backend, referee)
    assert not Path("kept").exists()
    (folder,) = Path(".work/pool/t").iterdir()
    assert len(list(folder.glob("*.parquet"))) == at
    return folder


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("at", range(6))
def test_an_interrupted_search_goes_on_as_if_nothing_had_been(
    name: str, at: int, undisturbed: Any, referee: Referee
) -> None:
    interrupted(name, referee, at)
    backend = Replaying()
    assert explored(name, backend, referee) == undisturbed[name]
    assert backend.asked == [6] * (6 - at)


def test_a_search_interrupted_in_every_batch_goes_on_as_if_nothing_had_been(undisturbed: Any, referee: Referee) -> None:
    for _ in range(5):
        backend = Replaying()
        backend.die_at = 1
        with pytest.raises(Killed):
            explored("funsearch", backend, referee)
    backend = Replaying()
    assert explored("funsearch", backend, referee) == undisturbed["funsearch"]
    assert backend.asked == [6]


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "gone": Path.unlink,
    "too few rows": lambda file: pq.write_table(pq.read_table(file).slice(0, 3), file),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_batch_that_the_disk_lost_is_made_again(
    damage: Callable[[Path], Any], undisturbed: Any, referee: Referee
) -> None:
    folder = interrupted("eoh", referee, 4)
    damage(folder / "00000012.parquet")
    backend = Replaying()
    assert explored("eoh", backend, referee) == undisturbed["eoh"]
    assert backend.asked == [6] * 3  # the lost one and two that were never written


def kept(referee: Referee) -> Path:
    """The file of a finished search whose stage has not finished."""
    explored("eoh", Replaying(), referee)
    (file,) = Path("kept").iterdir()
    return file


def test_a_finished_search_is_made_once_while_its_stage_goes_on(undisturbed: Any, referee: Referee) -> None:
    kept(referee)
    backend = Replaying()
    assert explored("eoh", backend, referee) == undisturbed["eoh"]
    assert backend.asked == [] and list(Path(".work/pool").rglob("*.parquet")) == []


@pytest.mark.parametrize("damage", [DAMAGES["empty"], DAMAGES["cut"]], ids=["empty", "cut"])
def test_a_finished_search_that_the_disk_lost_is_made_again(
    damage: Callable[[Path], Any], undisturbed: Any, referee: Referee
) -> None:
    damage(kept(referee))
    backend = Replaying()
    assert explored("eoh", backend, referee) == undisturbed["eoh"]
    assert backend.asked == [6] * 6


CHANGES: dict[str, dict[str, Any]] = {
    "the seed": {"seed": 1},
    "an option": {"options": OPTIONS["eoh"] | {"n_parents": 3}},
    "the population": {"options": OPTIONS["eoh"] | {"population": 9}},
    "the model": {"backend": Replaying("another")},
    "the temperature": {"decoding": Decoding(temperature=0.5, top_p=1.0, max_new_tokens=256)},
    "the rules": {"rules": {"max_slowdown": 2.0}},
    "the method": {"name": "climb"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_search_with_something_changed_starts_anew(change: dict[str, Any], referee: Referee) -> None:
    old = interrupted("eoh", referee, 3)
    arguments = {"name": "eoh", "backend": Replaying()} | change
    backend = arguments["backend"]
    explored(referee=referee, **arguments)
    assert sum(backend.asked) == 36 and not old.exists()


def test_a_longer_search_goes_on_from_a_shorter_one_that_was_interrupted(undisturbed: Any, referee: Referee) -> None:
    backend = Replaying()
    backend.die_at = 3
    with pytest.raises(Killed):
        explored("eoh", backend, referee, n=21)
    backend = Replaying()
    assert explored("eoh", backend, referee) == undisturbed["eoh"]
    assert backend.asked == [6] * 3


@pytest.fixture
def copied_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Adds a line to a file of the package, in a copy that fingerprints are taken from meanwhile."""
    package = tmp_path / "code/dartune"
    shutil.copytree(modules.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))

    def forget() -> None:
        for cached in (modules.code_fingerprint, modules.code_hash, modules.tree):
            cached.cache_clear()

    def add(file: str, line: str) -> None:
        (package / file).write_text((package / file).read_text() + line + "\n")
        forget()

    monkeypatch.setattr(modules, "PACKAGE", package)
    forget()
    yield add
    forget()


@pytest.mark.parametrize("file", ["search_loop.py", "prompts.py", "ask_tell.py", "methods/eoh.py"])
def test_unfinished_batches_outlive_a_comment_in_the_code_and_no_other_edit(
    file: str, undisturbed: Any, referee: Referee, copied_code: Callable[[str, str], None]
) -> None:
    interrupted("eoh", referee, 3)
    copied_code(f"pool/{file}", "# a comment")
    comment, edit = Replaying(), Replaying()
    comment.die_at = 1
    with pytest.raises(Killed):
        explored("eoh", comment, referee)  # three batches were kept, and now there are four
    copied_code(f"pool/{file}", "UNUSED = 1")
    assert explored("eoh", edit, referee) == undisturbed["eoh"]
    assert (comment.asked, edit.asked) == ([6], [6] * 6)


def test_unfinished_batches_outlive_an_edit_of_another_methods_code(
    undisturbed: Any, referee: Referee, copied_code: Callable[[str, str], None]
) -> None:
    interrupted("eoh", referee, 3)
    copied_code("pool/methods/funsearch.py", "UNUSED = 1")
    backend = Replaying()
    assert explored("eoh", backend, referee) == undisturbed["eoh"]
    assert backend.asked == [6] * 3


# ---- SIGKILL

N_KILLS = 20
SCRIPT = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dartune.pool import pool
from test_search_loop import Replaying, POOL

class Slow(Replaying):
    def complete(self, prompts, **settings):
        time.sleep(0.05)
        return super().complete(prompts, **settings)

pool.open_backend = lambda source: Slow()
for folder in sys.stdin:  # imports take longer than the pool: so each run is a fork, whose number and end are told
    child = os.fork()
    if child == 0:
        os.chdir(folder.strip())
        output = Path("pool.parquet"), Path("pool.json")
        rules, options = Path("rules/eoh.json"), {"population": 10, "n_parents": 2}
        pool.write_pool("tsp_construct", rules, options, *output, **POOL | {"n_programs": 100})
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def workers(parent: int) -> list[psutil.Process]:
    """The referee's processes that this one started: its number is their last argument."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command[-1:] == [str(parent)] and any(part.endswith("worker.py") for part in command):
            found.append(process)
    return found


@pytest.fixture
def script(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(Path(__file__).parent)],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as process:
        yield process


def test_a_pool_killed_at_random_moments_is_that_of_an_undisturbed_run(
    tmp_path: Path, script: subprocess.Popen[bytes]
) -> None:
    assert script.stdin and script.stdout
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    for folder in (whole, killed):
        write_referee(TASK.name, JUDGES, folder / "rules", **LIMITS, cluster=None)

    def run(folder: Path, seconds: float = 60.0) -> tuple[int, int]:
        """How a run ended that was killed after so many seconds, and how many workers it had then."""
        script.stdin.write(f"{folder}\n".encode())
        child, n_workers = int(script.stdout.readline()), 0
        if not select.select([script.stdout], [], [], seconds)[0]:
            n_workers = len(workers(child))
            os.kill(child, signal.SIGKILL)
        end = int(script.stdout.readline())
        until = time.monotonic() + 10
        while workers(child) and time.monotonic() < until:
            time.sleep(0.02)
        assert workers(child) == []
        return os.waitstatus_to_exitcode(end), n_workers

    assert run(whole)[0] == 0
    expected = (whole / "pool.parquet").read_bytes()
    begun = time.monotonic()
    assert run(whole)[0] == 0  # once more, with all its verdicts known
    longest = time.monotonic() - begun

    rng, output, n_workers, n_batches = random.Random(0), killed / "pool.parquet", [], set()
    while len(n_workers) < N_KILLS:
        end, n = run(killed, rng.uniform(0.05, longest))
        assert not output.exists() or output.read_bytes() == expected  # never half a pool
        if end == 0:
            output.unlink()  # it was faster than its kill: once more
        else:
            assert end == -signal.SIGKILL
            n_workers.append(n)
            n_batches.add(len(list(killed.glob(".work/pool/tsp_construct/*/*.parquet"))))
    assert max(n_workers) > 0 and len(n_batches) > 3  # kills did hit runs at work, and these did go on
    assert run(killed)[0] == 0
    assert output.read_bytes() == expected and pq.read_table(output).num_rows == 100


# ---- what models write and cannot read

HEAD = f"def {NAME}(current_node, destination_node, unvisited_nodes, distance_matrix):\n"
ODD = {
    "empty": "",
    "blanks": " \n\t\n",
    "half a character": f"{HEAD}    return unvisited_nodes['\ud83d']\n",
    "half a character in words": "I \udcff would take the nearest city.",
    "NUL": f"{HEAD}    return unvisited_nodes['\x00']\n",
    "control characters": "\x1b[31m\x07\x0c\x1c\u2028\ufeff",
    "deep": f"{HEAD}    return {'(' * 5000}{')' * 5000}\n",
    "long": f"{HEAD}    return unvisited_nodes[{'0 + ' * 20_000}no]\n",
    "a number without end": f"{HEAD}    return {'9' * 5000}\n",
    "a version without end": f"def {NAME}_v{'1' * 5000}(a, b, c, d):\n    return no\n",
    "a thought without end": "{" * 20_000,
}


@pytest.mark.parametrize("name", ["eoh", "funsearch"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_completion_becomes_a_failure_and_the_search_goes_on(name: str, odd: str, referee: Referee) -> None:
    def write(prompt: str, rng: Random) -> str:
        return odd if rng.random() < 0.5 else text(prompt, rng)

    rows = explored(name, Replaying(write=write), referee, n=18)
    statuses = [row["status"] for row in rows]
    assert statuses.count("ok") > 2 and len(statuses) - statuses.count("ok") > 6


def test_a_function_under_another_name_is_taken_where_it_is_the_only_one(referee: Referee) -> None:
    def write(prompt: str, rng: Random) -> str:
        return f"def choose(a, b, c, d):\n    # {rng.random()}\n    return c[-1]\n"

    rows = explored("climb", Replaying(write=write), referee, n=12)
    assert {row["status"] for row in rows} == {"ok"}
    assert all(row["program"].endswith(f"{NAME} = choose\n") for row in rows)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a chat template, whose context is 64 tokens."""
    folder = tmp_path_factory.mktemp("short")
    tokenizer = train_tokenizer([lesson.answer for lesson in plain(TASK.name, 50, 0)], 400)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    network = new_network(tokenizer, 32, 1, 0)
    network.config.max_position_embeddings = 64
    network.save_pretrained(folder)
    return folder


def test_a_context_that_is_too_short_is_named_with_its_numbers(short: Path, referee: Referee) -> None:
    local: Any = open_backend(short)
    n = len(local.tokenizer(TASK.prompt)["input_ids"])
    words = f"context is 64 tokens: a prompt of {n} and max_new_tokens: 256 do not fit"
    with pytest.raises(UserError, match=words) as refused:
        explored("independent", local, None)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"context is 64 tokens: a prompt of \d+ and max_new_tokens: 256 do not fit"):
        explored("funsearch", local, referee)


def test_a_context_that_just_holds_prompt_and_answer_is_enough(short: Path) -> None:
    local: Any = open_backend(short)
    prompt, n = "def f", len(local.tokenizer("def f")["input_ids"])
    fitting = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=64 - n)
    assert len(local.complete([prompt], seed=0, decoding=fitting)) == 1
    with pytest.raises(UserError, match=f"a prompt of {n} and max_new_tokens: {65 - n} do not fit"):
        local.complete([prompt], seed=0, decoding=Decoding(temperature=1.0, top_p=1.0, max_new_tokens=65 - n))


def test_a_model_without_a_chat_template_gets_the_prompt_as_plain_text(short: Path) -> None:
    local: Any = open_backend(short)
    (completion,) = local.complete(["def f(n):"], seed=0, decoding=Decoding(1.0, 1.0, 4))
    assert completion.n_prompt_tokens == len(local.tokenizer("def f(n):")["input_ids"])
    assert local._ids("def f(n):", 4) == local.tokenizer("def f(n):")["input_ids"]
