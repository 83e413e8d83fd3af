"""What a stage took: where it is written, and what it says."""

import json
from pathlib import Path

import pytest

from dartune.files.resources import measured


def test_what_an_experiment_took_is_kept_beside_its_deleted_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("metrics/resources/pool/a.json")
    with measured(file) as more:
        more["at_equal_seconds"] = {}
    assert {"seconds", "cpu_seconds", "peak_mib", "date", "commit", "machine", "at_equal_seconds"} == set(
        json.loads(file.read_text())
    )
    monkeypatch.setenv("DARTUNE_RESOURCES", str(tmp_path / "kept"))
    monkeypatch.setenv("DVC_EXP_NAME", "beta")
    with measured(file):
        pass
    assert json.loads((tmp_path / "kept/beta" / file).read_text()) == json.loads(file.read_text())
