"""A real model: SmolLM2's weights come from the Python index and go through all stages, with tiny numbers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from project_copy import TASK, copy_project, run, set_params, update

MODEL = "smollm2-135m"
TINY = {
    "sample": {"n_pairs": 6},
    "train": {"max_new_tokens": 60},
    "evaluate": {"n_samples": 4, "batch_size": 4, "max_new_tokens": 120},
    "search": {"max_new_tokens": 120},
    "trainers": {"sft": {"num_train_epochs": 1}, "dpo": {"per_device_train_batch_size": 2}},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose pool the embedded model writes, because SmolLM2's own programs hardly ever run."""
    folder = tmp_path_factory.mktemp("small")
    copy_project(folder, [TASK])
    patch = pytest.MonkeyPatch()
    patch.setenv("DARTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    pool = {"source": "models/embedded", "n_programs": 60, "batch_size": 60}
    searches = {"methods": ["climb"], "n_evaluations": 4, "seeds": [0]}
    train = {"method": ["sft", "dpo"], "probe": {"n_times": 1, "n_samples": 4}}
    set_params(folder, {"preset": MODEL, "pool": pool, "search": searches, "train": train})
    preset, yaml = folder / f"presets/{MODEL}.yaml", YAML()
    content = yaml.load(preset.read_text())
    update(content, TINY | {"pool": {"n_programs": 60, "batch_size": 60, "max_new_tokens": 256}})
    with preset.open("w") as stream:
        yaml.dump(content, stream)
    yield folder
    patch.undo()


def test_what_was_not_fetched_is_named_with_the_command_that_fetches_it(project: Path) -> None:
    done = run(project, "dvc", "repro", "-q", "base", is_ok=False)
    assert f"{MODEL} is not on this machine; run: dartune fetch {MODEL}" in done.stdout + done.stderr


def test_a_small_model_is_fetched_tuned_and_reported(project: Path) -> None:
    done = run(project, "dartune", "fetch", MODEL, "--from", "index")
    assert "quantised to Q4_1" in done.stdout and "licence of the model: Apache-2.0" in done.stdout
    run(project, "dvc", "repro", "-q")
    trained = json.loads((project / f"metrics/train/{TASK}.json").read_text())
    assert [part["settings"]["method"] for part in (*trained["earlier"], trained)] == ["sft", "dpo"]
    assert (
        "quantised to Q4_1" in trained["weights"] and trained["weights"] in (project / "report/index.html").read_text()
    )
    assert [len(part["probe"]) for part in (*trained["earlier"], trained)] == [2, 2]  # before and after the two steps
    rows = pq.read_table(project / f"data/evaluation/{TASK}.parquet").to_pylist()
    assert {row["model"] for row in rows} == {"base", "tuned"}
    assert {row["finish"] for row in rows} <= {"program", "stop", "length"}


def test_a_fetched_model_needs_no_network_any_more(project: Path) -> None:
    offline = ["env", "PIP_NO_INDEX=1", "HF_HUB_OFFLINE=1"]
    again = run(project, *offline, "dvc", "repro", "-q", "--force", "--single-item", "base")
    assert again.returncode == 0 and run(project, "dvc", "status", "base").stdout.strip().endswith("up to date.")
