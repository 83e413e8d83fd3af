"""Finished batches survive a kill; what decides them is in the fingerprint."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from dartune.errors import UserError
from dartune.files import batches, parquet
from dartune.files.fingerprint import fingerprint


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code may catch it."""


def batch_maker(done: list[int], die_at: int | None = None):
    def batch(rows: range) -> pa.Table:
        if rows.start == die_at:
            raise Killed
        done.append(rows.start)
        return pa.table({"row": list(rows)})

    return batch


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_killed_run_goes_on_with_the_batch_that_was_not_done() -> None:
    done: list[int] = []
    with pytest.raises(Killed):
        batches.run("pool t", "key", 10, 3, batch_maker(done, die_at=6), Path("out.parquet"))
    assert done == [0, 3] and not Path("out.parquet").exists()
    table = batches.run("pool t", "key", 10, 3, batch_maker(done), Path("out.parquet"))
    assert done == [0, 3, 6, 9]
    assert table["row"].to_pylist() == list(range(10))


def test_a_killed_and_repeated_run_writes_the_bytes_of_an_undisturbed_one() -> None:
    with pytest.raises(Killed):
        batches.run("pool t", "key", 10, 3, batch_maker([], die_at=9), Path("killed.parquet"))
    batches.run("pool t", "key", 10, 3, batch_maker([]), Path("killed.parquet"))
    batches.run("pool t", "key", 10, 3, batch_maker([]), Path("whole.parquet"))
    assert Path("killed.parquet").read_bytes() == Path("whole.parquet").read_bytes()


@pytest.mark.parametrize(("rate", "shown"), [(0.851, "0.85/s, 1175 s left"), (1234.5, "1234/s, 1 s left")])
def test_a_slow_rate_is_shown_with_decimals(rate: float, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    batches.print_progress("pool t", 0, 1000, rate, Counter({"ok": 3}))
    assert capsys.readouterr().err == f"pool t: 0 of 1000, {shown}, 3 ok\n"


def test_the_folder_of_unfinished_work_can_be_chosen(tmp_path: Path) -> None:
    script = "from dartune.files import batches; print(batches.folder('pool t', 'key').absolute())"
    chosen = {"DARTUNE_WORK": str(tmp_path / "kept")}
    for variables, folder in (({}, ".work"), (chosen, "kept")):
        output = subprocess.check_output([sys.executable, "-c", script], env=os.environ | variables, text=True)
        assert output.strip() == str(tmp_path / folder / "pool/t/key")


def test_another_fingerprint_starts_anew_and_forgets_the_old_batches() -> None:
    with pytest.raises(Killed):
        batches.run("pool t", "old", 10, 3, batch_maker([], die_at=6), Path("out.parquet"))
    done: list[int] = []
    batches.run("pool t", "new", 10, 3, batch_maker(done), Path("out.parquet"))
    assert done == [0, 3, 6, 9]
    assert list(Path(".work/pool/t").iterdir()) == []


def test_a_batch_cut_while_it_was_written_is_not_taken_for_done() -> None:
    folder = batches.folder("pool t", "key")
    (folder / "00000000.partial").write_bytes(b"PAR1 half a file")
    done: list[int] = []
    batches.run("pool t", "key", 2, 3, batch_maker(done), Path("out.parquet"))
    assert done == [0]


def test_the_fingerprint_follows_file_contents_and_settings() -> None:
    Path("a").write_text("one")
    first = fingerprint([Path("a")], seed=0)
    assert fingerprint([Path("a")], seed=1) != first
    Path("a").write_text("two")
    assert fingerprint([Path("a")], seed=0) != first
    Path("a").write_text("one")
    assert fingerprint([Path("a")], seed=0) == first


def test_a_truncated_parquet_file_is_named_in_one_line() -> None:
    parquet.write(pa.table({"row": [1]}), Path("cut.parquet"))
    Path("cut.parquet").write_bytes(Path("cut.parquet").read_bytes()[:-20])
    with pytest.raises(UserError, match=r"^cut.parquet: not a whole Parquet file .*run the stage again$"):
        parquet.read(Path("cut.parquet"))


def test_a_cut_checkpoint_is_removed_and_the_one_before_is_taken() -> None:
    for step, is_whole in ((10, True), (20, False)):
        Path(f"work/checkpoint-{step}").mkdir(parents=True)
        if is_whole:
            Path(f"work/checkpoint-{step}/trainer_state.json").write_text("{}")
    assert batches.last_checkpoint(Path("work")) == "work/checkpoint-10"
    assert not Path("work/checkpoint-20").exists()
