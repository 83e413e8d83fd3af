"""The Dockerfile, built by buildah, and what the image's user can do in it and cannot.

A fresh root by debootstrap stands in for the base image: Debian 12 and its Python 3.11 with venv, which is all that the
Dockerfile asks of it. Steps and commands run in a chroot, so neither a daemon nor control groups are needed. How pip
finds its packages on this machine is mounted while a step runs, and is part neither of the repository nor of the image.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("admissible_set", "tsp_construct", "cvrp_construct")
PACKAGES = "ca-certificates,python3.11,python3.11-venv,python3-distutils,python3-lib2to3,python-is-python3"
REGISTRY = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "cert", "constraint")
SECRET = f"secret-{uuid4().hex}"
STRAYS = (".env", "id_ed25519", "data/stray.txt", "data/pool/stray.txt", "models/stray.txt", "models/tuned/stray.txt")
SHARED = {"/tmp", "/var/tmp", "/run/lock"}  # everybody's on any Debian


class Image(NamedTuple):
    folder: Path  # buildah's, and what was built from
    container: str
    files: Path  # its root

    def run(self, *command: str) -> str:
        """What the command prints, run as the image's user in the image's folder."""
        return buildah(self.folder, "run", "--isolation", "chroot", self.container, "--", *command)


def buildah(folder: Path, *arguments: str) -> str:
    command = ["nice", "-n", "10", "buildah", "--root", f"{folder}/store", "--runroot", f"{folder}/run", *arguments]
    outside = os.environ | {"TMPDIR": str(folder), "DARTUNE_SECRET": SECRET}
    done = subprocess.run(command, env=outside, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def skip_without(*tools: str) -> None:
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: apt-get install {' '.join(missing)}")


def tracked() -> list[str]:
    """What git knows, and what it would: new files that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in listed.split("\0") if path and (ROOT / path).exists()]


def write_context(context: Path) -> None:
    """The repository as a person may have it, with a secret where people leave theirs."""
    for path in tracked():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, context / path)
    for path in STRAYS:
        (context / path).write_text(SECRET)


def registry() -> dict[str, str]:
    """pip's settings on this machine, by its own account; the environment's go before the files'."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    lines = sorted(line.split("=", 1) for line in listed.stdout.splitlines())
    settings = {name.rsplit(".", 1)[1]: ast.literal_eval(value) for name, value in reversed(lines)}
    return {name: " ".join(settings[name].split()) for name in REGISTRY if name in settings}


def mounts(folder: Path, settings: dict[str, str]) -> list[str]:
    """Options that show a step the settings and the local files and folders that they name."""
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    (folder / "pip.conf").write_text("[global]\n" + "".join(lines))
    words = [word.removeprefix("file://") for value in settings.values() for word in value.split()]
    named = {path for path in map(Path, words) if path.is_absolute() and path.exists()}
    named = {path.parent if path.name == "simple" else path for path in named}  # an index links to files beside it
    return [f"--volume={folder}/pip.conf:/etc/pip.conf:ro", *(f"--volume={path}:{path}:ro" for path in sorted(named))]


def build_base(folder: Path) -> None:
    base = folder / "base"
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]  # leaves no process and no mount
    tool = ["nice", "-n", "10", "debootstrap", "--variant=minbase", f"--include={PACKAGES}"]
    done = subprocess.run([*alone, *tool, "bookworm", str(base)], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:]
    (folder / "base.dockerfile").write_text("FROM scratch\nCOPY . /\n")
    options = ["--isolation=chroot", f"--file={folder}/base.dockerfile", "--tag=localhost/base"]
    buildah(folder, "bud", *options, str(base))
    shutil.rmtree(base)


def build(folder: Path) -> Image:
    build_base(folder)
    write_context(folder / "context")
    settings = registry()
    wheels = [f"--build-arg=CPU_WHEELS={settings['extra-index-url']}"] if "extra-index-url" in settings else []
    options = ["--isolation=chroot", "--network=host", "--from=localhost/base", *mounts(folder, settings), *wheels]
    buildah(folder, "bud", *options, "-t", "localhost/dartune", f"{folder}/context")
    container = buildah(folder, "from", "localhost/dartune").strip()
    return Image(folder, container, Path(buildah(folder, "mount", container).strip()))


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a root file system")
    skip_without("buildah", "debootstrap")
    folder = Path(tempfile.mkdtemp(prefix="dartune-image-", dir="/var/tmp"))  # 8 GB, which /tmp may not have
    try:
        yield build(folder)
    finally:
        buildah(folder, "rm", "--all")
        buildah(folder, "rmi", "--all", "--force")
        shutil.rmtree(folder)


def test_the_dockerfile_is_clean_to_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not hadolint:
        pytest.skip("needs hadolint: requirements-system.in")
    found = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_user_is_not_root_and_the_pipeline_is_in_order(image: Image) -> None:
    assert image.run("sh", "-c", 'echo "$(id -un) $(id -u) $HOME $PWD"').split() == [
        "dartune",
        "1000",
        "/home/dartune",
        "/dartune",
    ]
    assert "in order" in image.run("dartune", "check")
    assert image.run("git", "status", "--short") == ""


def pins(text: str) -> set[tuple[str, str]]:
    """Names and versions out of a list of packages; a CPU wheel's +cpu is no part of a version."""
    found = re.findall(r"^([\w.-]+)==([^\s+;]+)", text, re.MULTILINE)
    return {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in found}


def test_the_lock_is_what_is_installed(image: Image) -> None:
    frozen = image.run("python", "-m", "pip", "freeze", "--all", "--exclude-editable")
    assert pins((ROOT / "requirements.lock").read_text()) - pins(frozen) == set()
    assert image.run("python", "-c", "import torch, trl; print(torch.version.cuda)").strip() == "None"


def test_the_command_lists_every_task(image: Image) -> None:
    listed = image.run("dartune", "tasks")
    assert set(re.findall(r"^(\w+):", listed, re.MULTILINE)) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_the_referee_judges_a_program_in_the_image(image: Image, task: str) -> None:
    template = f"/dartune/src/dartune/tasks/{task}/template.py"
    verdict = json.loads(image.run("dartune", "score", "--task", task, "--json", template))
    assert (verdict["task"], verdict["status"]) == (task, "ok") and verdict["score"] is not None


def test_the_user_can_write_to_home_work_and_shared_folders_only(image: Image) -> None:
    own = "-path /home/dartune -o -path /dartune -o -path /proc -o -path /sys -o -path /dev"
    found = image.run("sh", "-c", f"find / \\( {own} \\) -prune -o ! -type l -writable -print 2>/dev/null || true")
    assert set(found.split()) <= SHARED
    assert image.run("sh", "-c", "touch ~/a /dartune/a /tmp/a && rm ~/a /dartune/a /tmp/a && echo done") == "done\n"


def test_the_image_has_the_files_that_git_has_and_no_others(image: Image) -> None:
    had = set(image.run("git", "ls-files").split())
    top = {path.split("/")[0] for path in had}
    assert {"src", "stages", "flows", "models", "data", "dvc.yaml", "dvc.lock", "params.yaml"} <= top
    assert had == {path for path in tracked() if path.split("/")[0] in top}


def test_no_secret_of_the_builder_is_anywhere_in_the_image(image: Image) -> None:
    def holders(text: str) -> list[str]:
        return subprocess.run(["grep", "-rlF", text, image.files], capture_output=True, text=True).stdout.split()

    assert f"{image.files}/dartune/params.yaml" in holders("held_out:")  # so the search does search
    assert holders(SECRET) == []
    assert SECRET not in buildah(image.folder, "inspect", "--type=image", "localhost/dartune")
