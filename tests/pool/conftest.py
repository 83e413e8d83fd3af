"""Fixtures of the searches' tests."""

from collections.abc import Iterator
from contextlib import ExitStack, chdir
from pathlib import Path

import pytest

from dartune.referee.referee import Referee
from replayed_search import LIMITS, TASK


@pytest.fixture(scope="package")
def referee(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Referee]:
    """One for all tests of this file, so that no program runs twice."""
    with ExitStack() as stack:
        with chdir(tmp_path_factory.mktemp("referee")):
            opened = stack.enter_context(Referee(TASK, "train", **LIMITS))
        yield opened


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
