"""Hostile programs, one file each in tests/attacks: what they may come to, how long they may take, what they may leave.

The first line of a file gives the statuses that are allowed and what is tried. `ok=NAME` allows the status ok with the
costs of the honest program NAME.py beside it: the attack had no effect. A second line `# needs:` names the layers of
the sandbox, or the machine, without which the program could do harm; there it is not run.
"""

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from dartune.authoring.cheats import Cheat, read_cheat
from dartune.programs.verdict import STATUSES, Verdict
from dartune.referee.referee import Referee
from dartune.tasks.task import Task, names

ATTACKS = Path(__file__).parents[1] / "attacks"
HONEST = {
    "admissible_set": "honest_constant",
    "cvrp_construct": "honest_nearest",
    "job_shop": "honest_most_work",
    "knapsack_bound": "honest_tightness",
    "max_independent_set": "honest_min_degree",
    "online_bin_packing": "honest_best_fit",
    "step_size": "honest_halves_or_grows",
    "tsp_construct": "honest_nearest",
}
PLACES = (Path("/tmp"), Path("/dev/shm"), Path("/var/tmp"), Path("/run"), Path.home())  # where attacks try to write
GRACE_S = 1.0  # on the clock, above the limit on CPU time


@dataclass(frozen=True)
class Attack(Cheat):
    """A hostile program. needs: see the second line of its file."""

    task: str
    needs: tuple[str, ...]

    def numbered(self, number: int) -> str:
        """The same program with another syntax tree, so that its verdict is not remembered."""
        return f"{self.text}\nNUMBER = {number}\n"


def read(path: Path) -> Attack:
    cheat = read_cheat(path)
    second = cheat.text.splitlines()[1]
    needs = second.removeprefix("# needs: ").split(", ") if second.startswith("# needs: ") else []
    return Attack(**vars(cheat), task=path.parent.name, needs=tuple(needs))


ALL = [read(path) for path in sorted(ATTACKS.glob("*/*.py"))]
HOSTILE = [attack for attack in ALL if not attack.name.startswith("honest_")]
BASELINE = {attack.task: attack for attack in ALL if attack.name == HONEST[attack.task]}
each_attack = pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: f"{attack.task}-{attack.name}")
each_task = pytest.mark.parametrize("task", names())


@dataclass(frozen=True)
class Trial:
    """What came of an attack that was judged alone. left: processes, files and descriptors that were not there."""

    verdict: Verdict
    seconds: float
    left: tuple[str, ...]


class Court:
    """One referee per task, started when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._referees: dict[str, Referee] = {}

    def referee(self, task: str) -> Referee:
        if task not in self._referees:
            self._referees[task] = Referee(Task(task), "train", max_slowdown=1, memory_mib=256).__enter__()
            self._referees[task].judge([BASELINE[task].text])  # before any hostile one; the verdict is remembered
        return self._referees[task]

    def close(self) -> None:
        for referee in self._referees.values():
            referee.__exit__()

    def trial(self, attack: Attack) -> Trial:
        """The attack judged alone."""
        referee = self.referee(attack.task)
        skip_where_it_could_do_harm(attack, referee)
        before = self.traces()
        start = time.monotonic()
        (verdict,) = referee.judge([attack.text])
        seconds = time.monotonic() - start
        return Trial(verdict, seconds, tuple(sorted(self.traces() - before)))

    def seconds(self, attack: Attack, trial: Trial) -> float:
        """Of the clock, in the best of three trials: other work on the machine costs no CPU time, but this."""
        seconds = [trial.seconds]
        while min(seconds) > 2.5 and len(seconds) < 3:
            start = time.monotonic()
            self.referee(attack.task).judge([attack.numbered(len(seconds))])
            seconds.append(time.monotonic() - start)
        return min(seconds)

    def traces(self) -> set[str]:
        """All that an attack could leave behind: processes, files, open descriptors and sockets, as text."""
        # Verdicts are kept in .work, by the referee itself.
        files = {str(path) for path in self.folder.rglob("*") if ".work" not in path.parts}
        files |= {str(path) for place in PLACES if place.exists() for path in place.glob("attack-*")}
        return files | processes(self.folder) | {f"{n} descriptors" for n in map(n_descriptors, workers())}

    def honest(self, task: str) -> tuple[float, ...]:
        """The costs of the honest program, judged before any other."""
        (verdict,) = self.referee(task).judge([BASELINE[task].text])
        assert verdict.costs is not None
        return verdict.costs


def missing_needs(attack: Attack, referee: Referee) -> set[str]:
    """What the attack needs to be harmless and this machine does not offer."""
    return set(attack.needs) - {"landlock", "seccomp", "network", platform.machine()} | (
        set(attack.needs) & set(referee._pool.missing_layers)
    )


def skip_where_it_could_do_harm(attack: Attack, referee: Referee) -> None:
    absent = missing_needs(attack, referee)
    if absent:
        pytest.skip(f"this machine does not offer {', '.join(sorted(absent))}, which alone stops this attack")


def processes(folder: Path) -> set[str]:
    """Descendants of this process, and others that work in or speak of a worker's folder."""
    descendants = {f"process {each.pid} {each.name()}" for each in psutil.Process().children(recursive=True)}
    strays = set()
    for each in psutil.process_iter(["cwd", "cmdline"]):
        place = [each.info["cwd"] or "", *(each.info["cmdline"] or [])]
        if any(text.startswith(str(folder)) for text in place) and each.pid != os.getpid():
            strays.add(f"process {each.pid} {each.name()}")
    return descendants | strays


def workers() -> list[int]:
    """The process numbers of all workers of all referees that are open here."""
    children = psutil.Process().children()
    return [each.pid for each in children if any(Path(part).name == "worker.py" for part in each.cmdline())]


def n_descriptors(process: int) -> int:
    """How many descriptors a process has open; -1 where only root may look, as workers cannot be traced."""
    try:
        return len(os.listdir(f"/proc/{process}/fd"))
    except PermissionError:
        return -1


@contextmanager
def on_one_core() -> Iterator[None]:
    """Where the system can tell a process its cores; tests side by side have one each."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    """In an empty folder, where the workers have their own folders too: nothing is remembered from before.

    On one core, so with one worker for each task, as all are looked at after each attack.
    """
    folder = tmp_path_factory.mktemp("court")
    (folder / "tmp").mkdir()
    with on_one_core(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        opened = Court(folder)
        yield opened
        opened.close()


def test_seventy_attacks_say_what_they_try_and_what_is_allowed() -> None:
    assert len(HOSTILE) >= 70
    assert {attack.task for attack in HOSTILE} == set(names())
    for attack in HOSTILE:
        assert attack.allowed and set(attack.allowed) <= set(STATUSES), attack.name
        assert ("ok" in attack.allowed) == (attack.baseline is not None), attack.name
        assert attack.baseline in (None, HONEST[attack.task]), attack.name


@each_attack
def test_a_hostile_program_gets_no_score_ends_in_time_and_leaves_nothing(attack: Attack, court: Court) -> None:
    trial = court.trial(attack)
    verdict = trial.verdict
    assert verdict.status in attack.allowed, verdict
    if verdict.status == "ok":
        assert verdict.costs == court.honest(attack.task)
    else:
        assert (verdict.score, verdict.costs, verdict.behaviour) == (None, None, None)
        assert verdict.reason.strip() and len(verdict.reason.splitlines()) == 1
        verdict.reason.encode()  # reports and tables can hold it
    assert trial.left == ()
    n_runs = 2 if verdict.status == "nondeterministic" else 1
    assert court.seconds(attack, trial) < n_runs * court.referee(attack.task).timeout_s + GRACE_S


@each_task
def test_honest_programs_between_hostile_ones_cost_what_they_cost_alone(task: str, court: Court) -> None:
    referee = court.referee(task)
    hostile = [attack for attack in HOSTILE if attack.task == task and runs_here(attack, referee)]
    programs = []
    for number, attack in enumerate(hostile):
        programs += [attack.numbered(number), BASELINE[task].numbered(number)]
    verdicts = referee.judge(programs)
    assert {verdict.costs for verdict in verdicts[1::2]} == {court.honest(task)}
    for attack, verdict in zip(hostile, verdicts[::2], strict=True):
        assert verdict.status in attack.allowed, (attack.name, verdict)


def runs_here(attack: Attack, referee: Referee) -> bool:
    return not missing_needs(attack, referee)


@each_task
def test_a_thousand_hostile_programs_leak_no_memory_and_no_descriptor(task: str, court: Court) -> None:
    referee = court.referee(task)
    hostile = [attack for attack in HOSTILE if attack.task == task and runs_here(attack, referee)]
    cheap = [attack for attack in hostile if "timeout" not in attack.allowed]
    n_programs = 1000 // len(names()) + 1
    programs = [cheap[i % len(cheap)].numbered(1000 + i) for i in range(n_programs + len(cheap))]
    referee.judge(programs[: len(cheap)])  # every one once: what is loaded late is loaded now
    before = usage()
    referee.judge(programs[len(cheap) :])
    after = usage()
    for (name, memory_mib, n_open), (_, memory_after_mib, n_open_after) in zip(before, after, strict=True):
        assert n_open_after == n_open, name
        assert memory_after_mib < memory_mib + 4, name


def usage() -> list[tuple[str, int, int]]:
    """(process, resident MiB, open descriptors) of this process and of the workers."""
    pids = [os.getpid(), *workers()]
    return [(f"process {pid}", psutil.Process(pid).memory_info().rss >> 20, n_descriptors(pid)) for pid in pids]


ENTROPY = [
    "default_rng()",
    "default_rng(None)",
    "default_rng(seed=None)",
    "np.random.Generator(np.random.PCG64())",
    "default_rng(np.random.SeedSequence())",
    "default_rng(secrets.randbelow(10**9))",
    "default_rng(random.SystemRandom().randrange(10**9))",
    "default_rng(random.seed() or random.randrange(10**9))",
    "default_rng(np.random.RandomState().randint(10**9))",
    "default_rng(os.urandom(1)[0])",
    "default_rng(os.getrandom(1)[0])",
    "default_rng(open('/dev/urandom', 'rb').read(1)[0])",
    "default_rng(uuid.uuid4().int)",
    "default_rng(uuid.uuid1().int)",
]


@pytest.mark.parametrize("generator", ENTROPY)
def test_chance_is_the_same_every_time_or_it_is_refused(generator: str, court: Court) -> None:
    program = (
        "import os, random, secrets, uuid\nimport numpy as np\nfrom numpy.random import default_rng\n"
        f"numbers = {generator}\n"
        "def select_next_node(c, d, u, m):\n    return u[numbers.integers(len(u))]\n"
    )
    attack = Attack("", "", program, (), None, "tsp_construct", ())
    verdicts = court.referee("tsp_construct").judge([attack.numbered(i) for i in range(4)])
    assert {verdict.status for verdict in verdicts} <= {"ok", "nondeterministic", "forbidden"}, verdicts[0]
    assert len({verdict.costs for verdict in verdicts}) == 1


SEEDED = ["np.random.rand(50)", "np.random.RandomState(1).rand(50)", "[random.random() for _ in range(50)]"]


@pytest.mark.parametrize("expression", SEEDED)
def test_chance_from_a_fixed_seed_gives_the_same_costs_in_every_process(expression: str, court: Court) -> None:
    program = (
        "import random\nimport numpy as np\ndef select_next_node(c, d, u, m):\n"
        f"    weights = {expression}\n    return max(u, key=lambda x: weights[x])\n"
    )
    attack = Attack("", "", program, (), None, "tsp_construct", ())
    verdicts = court.referee("tsp_construct").judge([attack.numbered(i) for i in range(6)])
    assert {verdict.status for verdict in verdicts} == {"ok"}
    assert len({verdict.costs for verdict in verdicts}) == 1


NEIGHBOURS = ["reads_the_next_program", "reads_the_previous_answer", "reads_memory_that_others_left"]


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_program_learns_nothing_of_those_before_and_behind_it(name: str, court: Court) -> None:
    attack = next(each for each in HOSTILE if each.name == name)
    verdicts = court.referee(attack.task).judge([attack.numbered(i) for i in range(100)])
    assert {verdict.status for verdict in verdicts} == {"ok"}


HONEST_TSP = "def select_next_node(c, d, u, m):\n    return u[0]\n"
# Source texts that no file holds, or that are hard to parse, to compile or to print. All are below the limit on the
# length of programs or meant to be above it; none may stop the referee or occupy it.
TEXTS = {
    "empty": ("", ("no_program",)),
    "blank": (" \n\t\n", ("no_program",)),
    "a NUL": (HONEST_TSP + "x = '\0'\n", ("syntax",)),
    "half a character": (HONEST_TSP + "x = '\ud800'\n", ("syntax",)),
    "half a character in a name": (HONEST_TSP + "\udfff = 1\n", ("syntax",)),
    "a byte order mark": ("\ufeff" + HONEST_TSP, ("ok", "syntax")),
    "an unknown encoding": ("# -*- coding: nothing -*-\n" + HONEST_TSP, ("ok", "syntax")),
    "UTF-7": ("# -*- coding: utf-7 -*-\n" + HONEST_TSP + "#+AAo-raise ValueError\n", ("ok", "syntax")),
    "lines of Windows": (HONEST_TSP.replace("\n", "\r\n"), ("ok",)),
    "form feeds": (HONEST_TSP.replace("\n", "\f\n\f"), ("ok", "syntax")),
    "2 MB of statements": ("x = 1\n" * 350_000 + HONEST_TSP, ("forbidden",)),
    "20 MB of nothing": (HONEST_TSP + "#" * 20_000_000, ("forbidden",)),
    "nested parentheses": ("x = " + "(" * 10_000 + ")" * 10_000 + "\n" + HONEST_TSP, ("syntax", "forbidden")),
    "nested lists": ("x = " + "[" * 150 + "]" * 150 + "\n" + HONEST_TSP, ("ok", "syntax")),
    "nested blocks": ("".join(" " * i + "if 1:\n" for i in range(150)) + " " * 150 + "1\n", ("syntax",)),
    "a sum of 100,000": ("x = " + "+".join("1" * 100_000) + "\n" + HONEST_TSP, ("syntax", "forbidden")),
    "attributes of attributes": ("x = lambda a: a" + ".a" * 40_000 + "\n" + HONEST_TSP, ("syntax", "forbidden")),
    "minus of minus": ("x = " + "-" * 90_000 + "1\n" + HONEST_TSP, ("syntax", "forbidden")),
    "a chain of else if": ("if 0: 1\n" + "elif 0: 1\n" * 9_000 + HONEST_TSP, ("ok", "syntax", "forbidden")),
    "an integer of 6,000 digits": ("x = " + "9" * 6_000 + "\n" + HONEST_TSP, ("syntax",)),
    "a hexadecimal integer of 6,000 digits": ("x = 0x" + "f" * 6_000 + "\n" + HONEST_TSP, ("ok",)),
    "a constant that grows": ("x = 10 ** 10 ** 10\n" + HONEST_TSP, ("timeout", "memory")),
    "a constant list that grows": ("x = (0,) * 10 ** 12\n" + HONEST_TSP, ("memory",)),
    "the slowest to compile": ("class A: 1\n" * 30_000 + HONEST_TSP, ("forbidden", "ok", "timeout")),
    "the slowest to parse": (HONEST_TSP + "lambda: f'" + "{a}" * 100_000 + "'", ("forbidden", "ok", "timeout")),
    "a stack that compiling overruns": (
        HONEST_TSP + "[a for a in a " + "for a in a " * 80_000 + "]",
        ("forbidden", "syntax", "crash"),
    ),
    "2,000 names": ("".join(f"name{i} = {i}\n" for i in range(2_000)) + HONEST_TSP, ("ok",)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_hard_to_read_is_judged_in_time(name: str, court: Court) -> None:
    text, allowed = TEXTS[name]
    referee = court.referee("tsp_construct")
    start = time.monotonic()
    (verdict,) = referee.judge([text])
    seconds = time.monotonic() - start
    assert verdict.status in allowed, verdict
    assert verdict.status == "ok" or (verdict.score is None and len(verdict.reason.splitlines()) == 1)
    assert seconds < referee.timeout_s + GRACE_S


def test_compiler_warnings_about_a_program_do_not_reach_the_terminal(
    court: Court, capfd: pytest.CaptureFixture[str]
) -> None:
    warnings = "def unused(x):\n" + "    x is 1\n" * 50 + "    '\\d'\n"
    with Referee(Task("tsp_construct"), "train", max_slowdown=1, memory_mib=256) as referee:
        (verdict,) = referee.judge([warnings + HONEST_TSP])
    assert verdict.costs == court.honest("tsp_construct")
    assert capfd.readouterr() == ("", "")


def test_a_closed_referee_leaves_no_folder_and_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with Referee(Task("tsp_construct"), "train", max_slowdown=1, memory_mib=256) as referee:
        referee.judge([HONEST_TSP])
    assert processes(tmp_path) - processes(Path("/nowhere")) == set()
    assert list((tmp_path / "tmp").iterdir()) == []
