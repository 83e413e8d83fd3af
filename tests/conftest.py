"""Fixtures that several test files share."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dvc.logger  # noqa: F401  # here, as its handlers keep the streams of its import: a test's own are closed after it
import pytest

SECONDS = Path(__file__).with_name("seconds.json")  # {file: what its tests took}, written by `pytest --save-seconds`


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--save-seconds", action="store_true", help=f"write what each file took to {SECONDS.name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that all workers end at about the same time; new ones before all."""
    seconds = json.loads(SECONDS.read_text())
    items.sort(key=lambda item: -seconds.get(item.nodeid.split("::")[0], math.inf))


TOOK: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    TOOK[report.nodeid.split("::")[0]] += report.duration  # type: ignore[assignment]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.option.save_seconds and not hasattr(session.config, "workerinput"):
        seconds = json.loads(SECONDS.read_text()) | {file: round(took, 1) for file, took in TOOK.items()}
        there = {file: took for file, took in sorted(seconds.items()) if (session.config.rootpath / file).exists()}
        SECONDS.write_text(json.dumps(there, indent=1) + "\n")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """The API address of a Prefect server with an empty database, which flows of this process use by themselves."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy repository before anything has run. Copy it; do not change it."""
    from toy_repository import make_toy

    return make_toy(tmp_path_factory.mktemp("toy") / "toy")


@pytest.fixture(scope="session")
def toy_run(toy: Path, prefect_server: str) -> tuple[Path, Any]:
    """The toy repository after one run of the flow with two workers, and the run's state. Copy it; do not change it."""
    from toy_repository import run

    root = toy.with_name("first")
    shutil.copytree(toy, root)
    return root, run(root, workers=2)


@pytest.fixture
def repo_after_run(toy_run: tuple[Path, Any], tmp_path: Path) -> Path:
    """The toy repository, in which everything has run once; it may be changed."""
    root = tmp_path / "repo"
    shutil.copytree(toy_run[0], root)
    (root / "ran.log").write_text("")
    return root


@pytest.fixture
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The openai client waits a hundredth of a second before it asks again, and then twice as long each time."""
    from openai import _base_client

    monkeypatch.setattr(_base_client, "INITIAL_RETRY_DELAY", 0.01)


# ---- Trainings that take seconds; imports stand where they are used, as those of torch take seconds too.


@pytest.fixture(scope="module")
def trl_imported() -> Iterator[None]:
    """TRL, imported and hidden from the garbage collector: each training collects, and imports left 500,000 objects."""
    import gc

    import peft  # noqa: F401
    import torch
    import trl.trainer.dpo_trainer
    import trl.trainer.grpo_trainer
    import trl.trainer.rloo_trainer
    import trl.trainer.sft_trainer  # noqa: F401

    torch.set_num_threads(1)
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def eight_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of eight words with a chat template, for numbers by hand; the test runs in an empty folder."""
    from eight_word_model import TURNS, write_word_model

    monkeypatch.chdir(tmp_path)
    return write_word_model(tmp_path / "words", TURNS)


@pytest.fixture(scope="module")
def taught_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that answers any prompt with one of four texts: two programs, a broken one, and one that is none."""
    from small_llama import BROKEN, FIRST, LAST, NONE, write_taught

    return write_taught(tmp_path_factory.mktemp("taught_llama"), [FIRST, LAST, BROKEN, NONE])


@pytest.fixture(scope="session")
def random_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama of random weights, with another chat template than the embedded model's. Do not change it."""
    from small_llama import write_llama

    return write_llama(tmp_path_factory.mktemp("random_llama"))


@pytest.fixture
def random_base(random_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base model's folder that points to `random_llama`; the test runs in the empty folder that holds it."""
    from small_llama import point_to_base

    monkeypatch.chdir(tmp_path)
    return point_to_base(random_llama)


@pytest.fixture(scope="module")
def referee() -> Iterator[Any]:
    """The referee of small_llama.TASK on its training instances."""
    from dartune.referee.referee import Referee
    from dartune.tasks.task import Task
    from small_llama import TASK

    with Referee(Task(TASK), "train", max_slowdown=1000, memory_mib=512) as referee:
        yield referee


@pytest.fixture
def base(taught_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base model's folder that points to `taught_llama`; the test runs in the empty folder that holds it."""
    from small_llama import point_to_base

    monkeypatch.chdir(tmp_path)
    return point_to_base(taught_llama)


@pytest.fixture
def pairs(base: Path) -> Path:
    """20 pairs for `base`, four of them held out."""
    from small_llama import TASK, corpus, write_some_pairs

    return write_some_pairs(base, corpus(TASK, 40, 3))
