"""`dartune score`: the referee's verdicts on programs, or models' answers, in files."""

import json
import sys
from contextlib import ExitStack, chdir
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dartune import params
from dartune.errors import UserError

TABLE = "{file:<{width}} {status:<16} {score:>12} {objective:>12} {gap:>8} {cpu_s:>8}  {reason}"  # of `dartune score`
NARROWEST = 12  # characters for the names of files
COLUMNS = ("file", "status", "score", "objective", "gap", "cpu_s", "reason")  # of the table
SCORE_CHUNK = 64  # programs judged before their verdicts are printed


def score_files(task_name: str, split: str, files: list[str], *, as_json: bool) -> int:
    """Print verdicts, as JSON lines or as a table, SCORE_CHUNK files at a time; return how many programs are not ok.

    A file holds a program or a model's whole answer. All are read first. Verdicts are kept for the next time only
    inside a project. Raises UserError for a file that cannot be read, and for an unknown task or split.
    """
    from dartune.referee.completions import judge
    from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB, Referee
    from dartune.tasks.task import Task

    task = Task(task_name)
    task.instances(split)  # raises for an unknown split
    answers = [(file, read_answer(file)) for file in files]
    line = partial(TABLE.format, width=max(NARROWEST, *map(len, files)))
    if not as_json:
        print(f"{task_name}, split {split}: {task.cost.DIRECTION} {task.cost.OBJECTIVE}")
        print(f"reference {task.reference(split):.4f}\n" + line(**{name: name for name in COLUMNS}))
    n_failed = 0
    with ExitStack() as stack:
        if not params.FILE.exists():
            stack.enter_context(chdir(stack.enter_context(TemporaryDirectory())))
        referee = stack.enter_context(Referee(task, split, max_slowdown=MAX_SLOWDOWN, memory_mib=MEMORY_MIB))
        for first in range(0, len(answers), SCORE_CHUNK):
            names, texts = zip(*answers[first : first + SCORE_CHUNK], strict=True)
            for file, judged in zip(names, judge(referee, list(texts)), strict=True):
                record = verdict_record(task, split, file, judged)
                n_failed += record["status"] != "ok"
                print(json.dumps(record) if as_json else line(**table_cells(record)), flush=True)
    return n_failed


def read_answer(file: str) -> str:
    """Return the text of a file, or of standard input for "-". Raises UserError where it cannot be read.

    Bytes that are not UTF-8 become lone surrogates: lines with them are no code.
    """
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {(error.strerror or str(error)).lower()}; expected a file with a program") from error
    return content.decode(errors="surrogateescape")


def verdict_record(task: Any, split: str, file: str, judged: Any) -> dict[str, Any]:
    """Return the object that `dartune score --json` prints for a file.

    objectives: by instance. gap: a fraction. program, extraction: what was read, and how (programs/extract.py).
    """
    verdict = judged.verdict
    is_ok = verdict.status == "ok"
    return {
        "file": file,
        "task": task.name,
        "split": split,
        "status": verdict.status,
        "reason": verdict.reason,
        "score": verdict.score,
        "objective": task.sign * verdict.score if is_ok else None,
        "gap": task.gap(verdict.score, split) if is_ok else None,
        "objectives": list(verdict.costs) if is_ok else None,
        "cpu_s": verdict.cpu_s,
        "extraction": judged.extraction,
        "program": judged.program,
    }


def table_cells(record: dict[str, Any]) -> dict[str, str]:
    """Return the record as strings, with numbers rounded for the table."""
    formats = {"score": "{:.4f}", "objective": "{:.4f}", "gap": "{:.2%}", "cpu_s": "{:.3f}"}
    numbers = {key: text.format(record[key]) if record[key] is not None else "-" for key, text in formats.items()}
    return {key: str(value) for key, value in record.items()} | numbers
