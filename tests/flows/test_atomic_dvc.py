"""DVC under the flow: its lock files survive a kill and a full disk while they are written."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FLOWS = Path(__file__).resolve().parents[2] / "flows"
N = 300  # entries of dvc.lock: writing it takes long enough to be met
sys.path.insert(0, str(FLOWS))

import atomic_dvc  # noqa: E402


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose dvc.lock is long, with one stage to run."""
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    stages = "".join(f"  s{i}: {{cmd: echo {i}, outs: [s{i}.txt]}}\n" for i in range(N))
    Path("dvc.yaml").write_text(f"stages:\n{stages}  last: {{cmd: echo 1 > last.txt, outs: [last.txt]}}\n")
    entry = "  s{0}:\n    cmd: echo {0}\n    outs:\n    - path: s{0}.txt\n      hash: md5\n      md5: '{1}'\n"
    locked = "".join(entry.format(i, f"{i:032x}") for i in range(N))
    Path("dvc.lock").write_text(f"schema: '2.0'\nstages:\n{locked}")
    return tmp_path


def command() -> list[str]:
    return [sys.executable, str(FLOWS / "atomic_dvc.py"), "repro", "-q", "--single-item", "last"]


def test_a_kill_while_dvc_lock_is_written_leaves_it_unchanged(repo: Path) -> None:
    before, partial = Path("dvc.lock").read_bytes(), Path(".dvc/tmp/dvc.lock.partial")
    dvc = subprocess.Popen(command())
    while not partial.exists():
        assert dvc.poll() is None, "dvc.lock was not written under another name"
        time.sleep(0.0005)
    dvc.send_signal(signal.SIGKILL)
    assert dvc.wait() == -signal.SIGKILL
    assert Path("dvc.lock").read_bytes() == before
    subprocess.run(command(), check=True)
    assert "\n  last:\n" in Path("dvc.lock").read_text() and not partial.exists()


def test_a_full_disk_while_a_lock_file_is_written_leaves_it_unchanged(repo: Path) -> None:
    before = Path("dvc.lock").read_bytes()
    with pytest.raises(OSError, match="No space"), atomic_dvc.atomic_write(Path("dvc.lock")) as stream:
        stream.write("schema")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert Path("dvc.lock").read_bytes() == before and list(Path(".dvc/tmp").glob("*.partial")) == []
