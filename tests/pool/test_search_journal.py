"""Killed searches go on where they stopped, and only where nothing that decides them has changed."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dartune.files import modules
from dartune.models.backend import Decoding
from dartune.referee.referee import Referee
from replayed_search import OPTIONS, SEARCHES, Killed, Replaying, explored


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
def test_a_killed_search_gives_the_rows_of_a_whole_run(name: str, at: int, undisturbed: Any, referee: Referee) -> None:
    interrupted(name, referee, at)
    backend = Replaying()
    assert explored(name, backend, referee) == undisturbed[name]
    assert backend.asked == [6] * (6 - at)


def test_a_search_killed_in_every_batch_gives_the_rows_of_a_whole_run(undisturbed: Any, referee: Referee) -> None:
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
    "the limits": {"limits": {"max_slowdown": 2.0}},
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
def test_a_comment_in_the_code_keeps_unfinished_batches_an_edit_does_not(
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


def test_an_edit_of_another_methods_code_keeps_unfinished_batches(
    undisturbed: Any, referee: Referee, copied_code: Callable[[str, str], None]
) -> None:
    interrupted("eoh", referee, 3)
    copied_code("pool/methods/funsearch.py", "UNUSED = 1")
    backend = Replaying()
    assert explored("eoh", backend, referee) == undisturbed["eoh"]
    assert backend.asked == [6] * 3
