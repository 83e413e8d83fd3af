"""The tiny pipeline under random SIGKILLs and on a full disk, and whether it then ends as an undisturbed run does.

`make chaos`, or: python benchmarks/chaos.py --seed 0 --kills 32 --full 3 [TASK ...]. One copy of the working tree runs
undisturbed; others are killed at random, or while something is being written, and are run again until they complete;
then all that stages made, dvc.lock first, must be equal but for metrics/resources, and nothing may be left behind.
Needs Linux; the full disk is a small tmpfs, which only root can mount.
"""

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from project_copy import TASK, copy_project  # noqa: E402

KINDS = ("flow", "supervisor", "dvc", "stage", "worker", "program", "server")
MOMENTS = ("any", "any", "*.partial", "dvc.lock", "rwlock", "cache")  # drawn from: what is being written at the kill
LONGEST_S = 25.0  # until a kill; about a third of an undisturbed run
GONE_S, SLOWER_S = 5.0, 15.0
HANGS_S = 600.0
MADE = ("dvc.lock", "data", "models", "metrics", "plots", "report")
TMPFS_MIB = 400


class Broken(Exception):
    """What the kills broke."""


class Copy:
    """One copy of the tiny project with a TMPDIR of its own. Its flow starts its own server, as `make run` does."""

    def __init__(self, folder: Path, start: Path) -> None:
        self.folder, self.log, self.tmp = folder, folder.with_suffix(".log"), folder.with_name(folder.name + "-tmp")
        self.tmp.mkdir()
        shutil.copytree(start, folder, symlinks=True)

    def start(self) -> subprocess.Popen[bytes]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        changed = {"PATH": path, "PYTHONPATH": str(self.folder / "src"), "TMPDIR": str(self.tmp)}
        environment = {name: text for name, text in os.environ.items() if name != "PREFECT_API_URL"} | changed
        command = [sys.executable, "flows/finetune.py"]
        with self.log.open("a") as log:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def last_line(self) -> str:
        return (self.log.read_text(errors="replace").strip().splitlines() or ["nothing was said"])[-1]

    def processes(self) -> dict[int, str]:
        """Kind of each living process of the copy, by id."""
        kinds = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and (kind := self.kind(process)):
                    kinds[process.pid] = kind
        return kinds

    def kind(self, process: psutil.Process) -> str:
        words, parent = process.cmdline(), process.parent()
        line = " ".join(words)
        if str(self.folder / "src/dartune/referee/worker.py") in words:
            is_forked = parent is not None and str(self.folder / "src/dartune/referee/worker.py") in parent.cmdline()
            return "program" if is_forked else "worker"
        if not words or not Path(process.cwd()).is_relative_to(self.folder):
            return ""  # without words: just ending
        if "uvicorn" in words:
            return "server"  # or its supervisor
        marks = {
            "flows/finetune.py": "flow",
            "flows/supervisor.py": "supervisor",
            "flows/atomic_dvc.py": "dvc",
            "stages/": "stage",
        }
        is_shell = words[:1] != [sys.executable] and not Path(words[0]).name.startswith("python")
        return next((kind for mark, kind in marks.items() if mark in line), "other") if not is_shell else "shell"

    def refuse_survivors(self) -> None:
        """Nothing that the flow started may live when it has ended for GONE_S; its server may be slower by SLOWER_S."""
        for within_s, spared in ((GONE_S, "server"), (SLOWER_S, "")):
            end = time.monotonic() + within_s
            while left := sorted(kind for kind in self.processes().values() if kind != spared):
                if time.monotonic() > end:
                    raise Broken(f"{within_s:g} s after the flow ended there are {left}")
                time.sleep(0.1)

    def is_written(self, moment: str, before: os.stat_result | None) -> bool:
        """Whether just now something of this sort is being written."""
        if moment == "dvc.lock":
            return stat(self.folder / "dvc.lock") != before
        if moment == "rwlock":
            lock = stat(self.folder / ".dvc/tmp/rwlock")
            return lock is not None and (lock != before or lock.st_size == 0)
        if moment == "cache":
            return any((self.folder / ".dvc/cache/files").rglob("*.tmp"))
        return any(file for top in ("data", "models", ".work") for file in (self.folder / top).rglob("*.partial"))


def stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def wait(copy: Copy, flow: subprocess.Popen[bytes], moment: str, chance: Random) -> bool:
    """Until the moment comes; False where the flow ends before."""
    watched = {"dvc.lock": "dvc.lock", "rwlock": ".dvc/tmp/rwlock"}.get(moment, "dvc.yaml")
    end = time.monotonic() + (chance.uniform(0, LONGEST_S) if moment == "any" else 3 * LONGEST_S)
    if moment != "any":
        time.sleep(chance.uniform(0, LONGEST_S / 2))  # not always the first of its sort
    before = stat(copy.folder / watched)
    while flow.poll() is None and time.monotonic() < end:
        if moment != "any" and copy.is_written(moment, before):
            return True
        time.sleep(0.02 if moment == "any" else 0.001)
    return flow.poll() is None


def victim(copy: Copy, moment: str, done: Counter[tuple[str, str]], chance: Random) -> tuple[int, str] | None:
    """A living process of the kind that was killed least; where DVC writes, DVC every second time."""
    alive = [(pid, kind) for pid, kind in copy.processes().items() if kind in KINDS]
    if not alive:
        return None
    hit = Counter(kind for kind, _ in done.elements())
    writer = {"dvc.lock": "dvc", "rwlock": "dvc", "cache": "dvc", "*.partial": "stage"}.get(moment)
    writers = [(pid, kind) for pid, kind in alive if kind == writer]
    if writers and chance.random() < 0.5:
        return chance.choice(writers)
    fewest = min(hit[kind] for _, kind in alive)
    return chance.choice([(pid, kind) for pid, kind in alive if hit[kind] == fewest])


def attempt(copy: Copy, done: Counter[tuple[str, str]], n_kills: int, chance: Random) -> int:
    """One run of the flow with up to three kills. Returns its exit status."""
    flow = copy.start()
    for _ in range(min(3, n_kills)):
        moment = chance.choice(MOMENTS)
        if not wait(copy, flow, moment, chance) or (chosen := victim(copy, moment, done, chance)) is None:
            break
        pid, kind = chosen
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            done[kind, moment] += 1
            print(f"{sum(done.values()):3} {kind:<8} while {moment}", flush=True)
        if kind == "flow":
            break
    try:
        status = flow.wait(timeout=HANGS_S)
    except subprocess.TimeoutExpired:
        flow.kill()
        raise Broken(f"the flow did not end within {HANGS_S:g} s") from None
    copy.refuse_survivors()
    return status


def campaign(copy: Copy, done: Counter[tuple[str, str]], n_kills: int, chance: Random) -> list[str]:
    """Runs until n_kills more are made, then to the end. Returns what undisturbed runs failed with."""
    first, failures = sum(done.values()), []
    while (left := first + n_kills - sum(done.values())) > 0:
        if attempt(copy, done, left, chance) == 0:
            break
    while attempt(copy, done, 0, chance) != 0:
        failures.append(copy.last_line())
        print(f"    undisturbed, and yet: {failures[-1]}", flush=True)
        if len(failures) == 3:
            raise Broken(f"does not complete any more: {failures[-1]}")
    return failures


def digests(folder: Path) -> dict[str, str]:
    files = [file for top in MADE for file in [folder / top, *(folder / top).rglob("*")] if file.is_file()]
    names = {str(file.relative_to(folder)): file for file in files}
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest()
        for name, file in names.items()
        if not name.startswith(("metrics/resources", "report/run.css")) and "__pycache__" not in name
    }


def left_behind(copy: Copy) -> list[str]:
    """Unfinished work, partial files, locks, temporary files; torch's own compiler cache is not ours."""
    work = [f for f in (copy.folder / ".work").rglob("*") if f.is_file() and f.stat().st_size]  # run.lock is empty
    work = [f for f in work if "verdicts" not in f.parts]
    partial = [*copy.folder.rglob("*.partial"), *(copy.folder / ".dvc/cache").rglob("*.tmp")]
    temporary = [f for f in copy.tmp.iterdir() if not f.name.startswith("torchinductor_")]
    return [str(file.relative_to(copy.folder.parent)) for file in (*work, *partial, *temporary, *locks(copy))]


def locks(copy: Copy) -> list[Path]:
    """DVC's, where it names a process that lives: it passes over those of the dead."""
    file = copy.folder / ".dvc/tmp/rwlock"
    held = re.findall(r'"pid": (\d+)', file.read_text()) if file.exists() else []
    return [file] * any(psutil.pid_exists(int(process)) for process in held)


def damaged(copy: Copy) -> list[str]:
    """Objects of DVC's cache that are not what their name says."""
    return [
        str(file.relative_to(copy.folder))
        for file in (copy.folder / ".dvc/cache/files/md5").glob("??/*")
        if file.suffix != ".tmp"
        and hashlib.md5(file.read_bytes()).hexdigest() != file.parent.name + file.name.removesuffix(".dir")
    ]


def compared(copy: Copy, expected: dict[str, str]) -> list[str]:
    present = digests(copy.folder)
    names = sorted(name for name in expected | present if expected.get(name) != present.get(name))
    other = [f"differs: {name}" for name in names] + [f"left behind: {name}" for name in left_behind(copy)]
    return other + [f"damaged: {name}" for name in damaged(copy)]


def filled(copy: Copy, chance: Random) -> None:
    """One run on which the disk fills up at a random moment: it must fail in one line, and room be made again."""
    flow, ballast = copy.start(), copy.folder.parent / "ballast"
    wait(copy, flow, chance.choice(("any", "*.partial", "cache")), chance)
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    try:
        status = flow.wait(timeout=HANGS_S)
    except subprocess.TimeoutExpired:
        flow.kill()
        raise Broken(f"on a full disk the flow did not end within {HANGS_S:g} s") from None
    finally:
        ballast.unlink()
    print(f"    disk full, status {status}: {copy.last_line()}", flush=True)
    copy.refuse_survivors()


def on_small_disk(folder: Path, start: Path, n: int, expected: dict[str, str], chance: Random) -> list[str]:
    """What differs after n runs on a disk that fills up, and one on a disk with room."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        print("disk full: skipped, a tmpfs cannot be mounted here")
        return []
    try:
        copy = Copy(folder / "copy", start)
        copy.log = folder.with_suffix(".log")
        for _ in range(n):
            filled(copy, chance)
        campaign(copy, Counter(), 0, chance)
        return compared(copy, expected)
    finally:
        subprocess.run(["umount", "-l", str(folder)])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", default=[TASK])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=32)
    parser.add_argument("--per-copy", type=int, default=16, help="kills before a copy is run to its end and compared")
    parser.add_argument("--full", type=int, default=3, help="runs on a disk that fills up")
    parser.add_argument("--keep", action="store_true", help="the copies and their logs")
    return parser.parse_args()


def table(done: Counter[tuple[str, str]]) -> str:
    moments = sorted(set(MOMENTS))
    rows = [[kind, *(done[kind, moment] for moment in moments)] for kind in KINDS]
    lines: list[list[Any]] = [["killed", *moments], ["---"] * (len(moments) + 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def chaos(folder: Path, given: argparse.Namespace) -> list[str]:
    chance, done, wrong = Random(given.seed), Counter[tuple[str, str]](), list[str]()
    start = folder / "start"  # the working tree may change meanwhile
    copy_project(start, given.tasks)
    reference = Copy(folder / "reference", start)
    began = time.monotonic()
    if attempt(reference, done, 0, chance):
        sys.exit(f"chaos: the undisturbed run fails: {reference.last_line()}")
    print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    expected = digests(reference.folder)
    wrong += [f"undisturbed: {name}" for name in left_behind(reference)]
    for number in range(10):
        if (left := given.kills - sum(done.values())) <= 0:
            break
        copy = Copy(folder / f"killed-{number}", start)
        try:
            failures = campaign(copy, done, min(left, given.per_copy), chance)
            wrong += [f"copy {number}: needed another run: {failure}" for failure in failures]
            wrong += [f"copy {number}: {line}" for line in compared(copy, expected)]
        except Broken as broken:
            wrong.append(f"copy {number}: {broken}")
        print(f"copy {number} at {time.monotonic() - began:.0f} s: {len(wrong)} wrong so far", flush=True)
    print(table(done), flush=True)
    try:
        small = on_small_disk(folder / "small", start, given.full, expected, chance) if given.full else []
        wrong += [f"full disk: {line}" for line in small]
    except Broken as broken:
        wrong.append(f"full disk: {broken}")
    print(f"{sum(done.values())} kills in {time.monotonic() - began:.0f} s, seed {given.seed}")
    return wrong


def main() -> None:
    given = arguments()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    wrong = chaos(folder, given)
    if given.keep or wrong:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    print("\n".join(wrong) or "equal to the undisturbed run, nothing left behind")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
