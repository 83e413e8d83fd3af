"""`dartune task check`: what is wrong with a task, and what its scores are like, in a minute.

The first checks are those of every run (tasks/contract.py); the rest need the referee. A finding is an error where
results would be wrong or could be had by cheating, and a warning where a tuning would learn little.
"""

import builtins
import keyword
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import combinations, islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dartune.authoring.cheats import cheats_of, common_cheats
from dartune.authoring.elsewhere import DRAWS, digest, elsewhere
from dartune.authoring.leaks import function_of, leaks
from dartune.authoring.mutations import mutations
from dartune.errors import UserError
from dartune.programs.decisions import decode, encode
from dartune.referee.completions import judge, template_score
from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB, Referee
from dartune.tasks.contract import REQUIRED, check_task, described, is_forgeable, small, task_code, text_of
from dartune.tasks.task import Task, decisions_on, frozen, online_key

N_COPIES = 20  # of the template, to be timed
N_PROGRAMS = 200  # whose scores are shown
SEED = 0
BEYOND = 1e-6  # above the reference's quality, which is rounding
BOUND = "references.json is not of these instances or no bound, or DIRECTION is wrong"
UNLIKE, VERY_UNLIKE = 2.0, 10.0  # times, the template's qualities on splits of one size, and on all
PLATEAU = 0.8  # share of valid programs with one and the same score
MIN_SCORES = 5  # different ones
SATURATED = 0.1  # share of valid programs as good as the reference
MIN_VALID = 20  # programs, to say anything about scores
SLOW_S = 1.0  # an evaluation
TRUSTED = "no answer in sight, arguments are copies, costs come from decisions"
WORDS = re.compile(r"`(\w+)`|\b([a-z]+(?:_[a-z0-9]+)+)\b")  # of a prompt, that look like names of the program
KNOWN = {*dir(builtins), *keyword.kwlist, *sys.stdlib_module_names, "numpy", ""}


class Finding(NamedTuple):
    """What a check found. level: ok, warning or error."""

    level: str
    check: str
    text: str


def findings(name: str, pool: Path | None = None) -> Iterator[Finding]:
    """Yield what the checks find, in their order. pool: a Parquet file of answers to the task, for its scores.

    Later checks need a task that runs, so the first error of tasks/contract.py is the last finding. Raises UserError
    where the pool cannot be read.
    """
    answers = answers_in(pool) if pool else []
    try:
        check_task(name)
    except UserError as error:
        yield Finding("error", "folder", str(error))
        return
    task = Task(name)
    yield Finding("ok", "folder", f"{task.cost.DIRECTION} {task.cost.OBJECTIVE}; {task.signature}")
    yield from safely("splits", about_splits(task), task)
    yield from about_words(task)
    if is_forgeable(task):
        yield Finding("warning", "trust", "another package scores programs in their own process: they can forge scores")
    else:
        yield from listed("trust", leaks(task), lambda: TRUSTED, task)
    found = list(safely("template", about_references(task), task))
    yield from found
    if any(finding.check == "template" for finding in found):  # it fails, and a referee gives it ten minutes
        return
    with ExitStack() as stack:
        try:
            opened = Referee(task, "validation", max_slowdown=MAX_SLOWDOWN, memory_mib=MEMORY_MIB)
            referee = stack.enter_context(opened)
        except (RuntimeError, UserError) as error:  # it runs the template
            yield Finding("error", "template", str(error))
            return
        yield from about_template(task, referee)
        if not is_forgeable(task):
            yield from listed(
                "cheats", successes(task, referee), lambda: f"{n_cheats(task)} programs that cheat got nothing", task
            )
        yield from safely("scores", about_scores(task, referee, (f"of {pool}", answers) if pool else None), task)


def safely(check: str, found: Iterator[Finding], task: Task) -> Iterator[Finding]:
    """Yield findings; what the task's code raises is the last one."""
    try:
        yield from found
    except (Exception, SystemExit) as error:  # of grammar.py, say, or of cost.py on a program's decisions
        yield Finding("error", check, described(error, task))


def listed(check: str, errors: Iterator[str], fine: Callable[[], str], task: Task) -> Iterator[Finding]:
    """Yield the errors, or that there are none; what the task's code raises is one."""

    def found() -> Iterator[Finding]:
        """Yield them."""
        texts = list(errors)
        yield from (Finding("error", check, text) for text in texts)
        if not texts:
            yield Finding("ok", check, fine())

    yield from safely(check, found(), task)


def about_splits(task: Task) -> Iterator[Finding]:
    """Yield whether splits are the same at every draw and have no instance in common."""
    drawn = {split: text_of(task.instances(split)) for split in small(task)}
    changing = [split for split, content in drawn.items() if content != text_of(task.instances(split))]
    found = elsewhere(task)
    for split in changing:
        yield Finding("error", "splits", f"draw({split!r}) differs from call to call; draw from the split's own seed")
    for split in (split for split in drawn if split not in changing and found[split] != digest(drawn[split])):
        text = f"draw({split!r}) differs from process to process; draw from the split's own seed, not from hash()"
        changing.append(split)
        yield Finding("error", "splits", text)
    if found[DRAWS] and online_key(task.rollout):
        yield Finding("error", "splits", f"{DRAWS}, so a program can draw the items that are revealed later")
    pairs = [(a, b) for a, b in combinations(drawn, 2) if any(one in drawn[b] for one in drawn[a])]
    if shared := sorted({split for pair in pairs for split in pair}):
        text = f"{', '.join(shared)} share instances, so what is good on one is good on the other"
        yield Finding("warning", "splits", text)
    if not changing and not shared:
        sizes = ", ".join(f"{split} {len(content)}" for split, content in drawn.items())
        yield Finding("ok", "splits", f"{sizes} instances, none in two splits, the same at every draw")


def about_words(task: Task) -> Iterator[Finding]:
    """Yield names in the prompt that the template does not have: an error where they are marked as code."""
    found = WORDS.findall(task.description)
    for level, number in (("error", 0), ("warning", 1)):
        words = {match[number] for match in found} - KNOWN
        if unknown := sorted(word for word in words if not re.search(rf"\b{word}\b", task.template)):
            yield Finding(level, "words", f"prompt.md speaks of {', '.join(unknown)}, which template.py does not have")
            return
    yield Finding("ok", "words", "prompt and template agree in their names")


def about_references(task: Task) -> Iterator[Finding]:
    """Yield the template's quality on each split, and where it is better than the reference there."""
    qualities = {split: quality_of_template(task, split) for split in small(task)}
    text = "the template has quality " + ", ".join(f"{quality:.3f} on {split}" for split, quality in qualities.items())
    same = [qualities[split] for split in REQUIRED]
    better = [split for split, quality in qualities.items() if quality > 1 + BEYOND]
    if better and not is_forgeable(task):
        yield Finding("error", "references", f"the template is better on {', '.join(better)}; {BOUND}; {text}")
    elif max(same) > UNLIKE * min(same) or max(qualities.values()) > VERY_UNLIKE * min(qualities.values()):
        yield Finding("warning", "references", f"{text}: very unlike; are they those of these instances?")
    else:
        yield Finding("ok", "references", text)


def quality_of_template(task: Task, split: str) -> float:
    """Return the template's quality, run in this process."""
    instances = [frozen(instance) for instance in task.instances(split)]
    with task_code():
        decisions = list(decisions_on(instances, task.rollout, function_of(task)))
        costs, _ = task.charged(task.cost.prepare(instances), decode(encode(decisions), len(instances)))
    return task.quality(task.score(costs), split)


def about_template(task: Task, referee: Referee) -> Iterator[Finding]:
    """Yield whether the template always costs the same, and what an evaluation takes."""
    first = time.time_ns()  # new programs at each check: verdicts on old ones are remembered
    copies = [f"{task.template}\nNUMBER = {first + number}\n" for number in range(N_COPIES)]
    start = time.perf_counter()
    verdicts = referee.judge(copies)
    seconds = (time.perf_counter() - start) / N_COPIES
    if failed := [verdict for verdict in verdicts if verdict.status != "ok"]:
        yield Finding("error", "template", f"is {failed[0].status}: {failed[0].reason}")
        return
    if len({verdict.costs for verdict in verdicts}) > 1:
        yield Finding("error", "template", "costs differ from run to run; seed what is random")
        return
    cpu_s = float(np.mean([verdict.cpu_s for verdict in verdicts]))
    level = "warning" if seconds > SLOW_S else "ok"
    text = f"{seconds:.3f} s an evaluation, {cpu_s:.3f} s of it the template's process; limit {referee.timeout_s:g} s"
    text += f"; the same costs in {N_COPIES} runs"
    yield Finding(level, "time", f"{text}; a pool of 1,000 takes {seconds * 1000:.0f} s")


def n_cheats(task: Task) -> int:
    """Return how many programs try to cheat."""
    return len(list(common_cheats(task))) + len(cheats_of(task)[0])


def successes(task: Task, referee: Referee) -> Iterator[str]:
    """Yield the programs that cheat and get something for it."""
    common = list(common_cheats(task))
    for (attempt, _), verdict in zip(common, referee.judge([text for _, text in common]), strict=True):
        quality = task.quality(verdict.score, "validation")
        if quality > 1 + BEYOND:
            yield f"a program that {attempt} gets quality {quality:.3g}, better than the reference"
    cheats, honest = cheats_of(task)
    costs = dict(zip(honest, [verdict.costs for verdict in referee.judge(honest.values())], strict=True))
    for cheat, verdict in zip(cheats, referee.judge([cheat.text for cheat in cheats]), strict=True):
        if verdict.status not in cheat.allowed:
            reason = f" ({verdict.reason})" if verdict.reason else ""
            yield f"{cheat.name} is {verdict.status}{reason}; expected {' or '.join(cheat.allowed)}: {cheat.attempt}"
        elif verdict.status == "ok" and cheat.baseline and verdict.costs != costs.get(cheat.baseline):
            yield f"{cheat.name} has other costs than {cheat.baseline}: {cheat.attempt}"


def about_scores(task: Task, referee: Referee, pool: tuple[str, list[str]] | None) -> Iterator[Finding]:
    """Yield what the scores of programs are like. pool: where programs come from, and they; None: see sample_of."""
    source, programs = pool or sample_of(task)
    verdicts = [judged.verdict for judged in judge(referee, programs)]
    template = task.quality(template_score(referee), "validation")
    qualities = [task.quality(verdict.score, "validation") for verdict in verdicts if verdict.status == "ok"]
    statuses = ", ".join(f"{n} {status}" for status, n in Counter(verdict.status for verdict in verdicts).most_common())
    yield Finding("ok", "programs", f"{len(programs)} {source}: {statuses}")
    if len(qualities) < MIN_VALID:
        text = f"{len(qualities)} are valid: too few to say what the scores are like; give a pool of answers by --pool"
        yield Finding("warning", "scores", text)
        return
    yield from warnings_of(np.array(qualities), template, bounded=not is_forgeable(task))


def warnings_of(qualities: np.ndarray, template: float, *, bounded: bool) -> Iterator[Finding]:
    """Yield the range of the valid programs' qualities (n,), and what is odd about it.

    bounded: whether nothing may be better than the reference.
    """
    counts = Counter(qualities.round(9).tolist())
    worst, median, best = np.quantile(qualities, (0, 0.5, 1))
    share = float((qualities > template + BEYOND).mean())
    text = f"{len(qualities)} valid, {len(counts)} different qualities: {worst:.3f} to {best:.3f}, median {median:.3f}"
    yield Finding("ok", "scores", f"{text}; {share:.0%} better than the template")
    commonest, n = counts.most_common(1)[0]
    if bounded and best > 1 + BEYOND:
        text = f"a program is {best:.6g} times as good as the reference; {BOUND}"
        yield Finding("error", "scores", text)
    if n / len(qualities) >= PLATEAU or len(counts) < MIN_SCORES:
        text = f"{n / len(qualities):.0%} have the quality {commonest:.3f}, of {len(counts)} there are: a plateau"
        yield Finding("warning", "scores", f"{text} from which nothing is learnt")
    if bounded and (n_best := int((qualities >= 1 - BEYOND).sum())) / len(qualities) >= SATURATED:
        yield Finding("warning", "scores", f"{n_best} are as good as the reference: too easy to learn from")
    if share == 0:
        yield Finding("warning", "scores", "none is better than the template, which may be the best there is")


def answers_in(pool: Path) -> list[str]:
    """Return the first N_PROGRAMS different answers of a pool. Raises UserError where there are none."""
    try:
        answers = pq.read_table(pool, columns=["completion"])["completion"].to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--pool: {pool} is no Parquet file with a column completion ({reason})") from error
    if not all(isinstance(answer, str) for answer in answers):
        raise UserError(f"--pool: {pool} has completions that are no texts")
    return list(islice(dict.fromkeys(answers), N_PROGRAMS))


def sample_of(task: Task) -> tuple[str, list[str]]:
    """Return where programs come from, and N_PROGRAMS different ones, of the grammar or near the template."""
    if (task.folder / "grammar.py").exists():
        generator = Random(SEED)
        with task_code():
            drawn = dict.fromkeys(task.grammar.draw(generator) for _ in range(2 * N_PROGRAMS))
        return "of the grammar", list(islice(drawn, N_PROGRAMS))
    return "near the template", list(islice(mutations(task.template, SEED), N_PROGRAMS))


def print_findings(name: str, pool: Path | None) -> int:
    """Print the findings as they come and the verdict in a line; return the number of errors."""
    levels: Counter[str] = Counter()
    for level, check, text in findings(name, pool):
        levels[level] += 1
        print(f"{level:<8} {check:<10} {text}", flush=True)
    warnings = f"{levels['warning']} warning{'s' * (levels['warning'] != 1)}"
    errors = f"{levels['error']} error{'s' * (levels['error'] != 1)}"
    print(f"\n{name}: {f'not usable, {errors}' if levels['error'] else f'usable, {warnings}'}")
    return levels["error"]
