"""Exports of a project in which every stage ran once, made once for all tests of this folder."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dartune.export.export import export
from dartune.models.checkpoint import open_tokenizer
from dartune.tasks.task import Task
from finished_project import GREEDY, HUB, REVISION, TASK, git, new_adapter, new_model, new_project, record, tuned_folder


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the Hub that holds one model at one revision."""
    cache = tmp_path_factory.mktemp("hub")
    new_model(cache / f"models--{HUB.replace('/', '--')}" / "snapshots" / REVISION, seed=0)
    return cache


def go_offline(patch: pytest.MonkeyPatch, cache: Path) -> None:
    import huggingface_hub.constants as constants

    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module", autouse=True)
def without_network(hub: Path) -> Iterator[None]:
    """The cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        go_offline(patch, hub)
        yield


@pytest.fixture(scope="session")
def project(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports in out/: adapter, merged, weights and still-weights, of an adapter first and weights later.

    dvc.lock is of the weights. expected.json has what dartune's own model says.
    """
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("project")
    new_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        go_offline(patch, hub)
        patch.chdir(folder)
        Repo.init(no_scm=True).close()
        source = {"model": HUB, "revision": REVISION, "files": None}
        Path("models/base").mkdir()
        Path("models/base/source.json").write_text(json.dumps(source))
        tuned = tuned_folder()
        shutil.rmtree(tuned)
        new_adapter(Path("models/base"), tuned)
        record()
        git("init", "-q")
        git("add", "-A")
        git("commit", "-q", "-m", "adapter")
        export(TASK, Path("out/adapter"), False)
        export(TASK, Path("out/merged"), True)
        said = {"adapter": says(tuned)}
        shutil.rmtree(tuned)
        new_model(tuned, seed=1)
        open_tokenizer(tuned).save_pretrained(tuned)
        record()
        git("commit", "-q", "-a", "-m", "weights")
        export(TASK, Path("out/weights"), False)
        with Path("dvc.yaml").open("a") as stream:
            stream.write("# changed\n")
        export(TASK, Path("out/still-weights"), True)
        said["weights"] = says(tuned)
        Path("expected.json").write_text(json.dumps(said))
    return folder


def says(tuned: Path) -> dict[str, Any]:
    """Logits and greedy text of dartune's own back end."""
    import torch

    from dartune.models.transformers_backend import TransformersBackend

    backend = TransformersBackend(Path("models/base"), tuned)
    with torch.no_grad():
        logits = backend.model(torch.tensor([[5, 6, 7, 8]])).logits[0, -1].tolist()
    (written,) = backend.complete([Task(TASK).prompt], seed=0, decoding=GREEDY)
    return {"logits": logits, "text": written.text}


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def copied(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project without its exports, for tests that change it."""
    folder = tmp_path / "copy"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("out", "src", ".git", ".dvc"))
    monkeypatch.chdir(folder)
    return folder
