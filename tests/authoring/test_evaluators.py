"""A task exported for OpenEvolve and LLM4AD: their files judge as the referee does."""

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

import dartune.tasks
from dartune.authoring.evaluators import FILES, opened, write_evaluators
from dartune.authoring.skeleton import write_skeleton
from dartune.errors import UserError
from dartune.referee.referee import Referee
from dartune.tasks.task import Task, add_folder

NAME = "tsp_construct"
BROKEN = "def select_next_node(current_node, destination_node, unvisited_nodes, distance_matrix):\n    return None\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("exported") / "tsp"
    assert [path.name for path in write_evaluators(Task(NAME), "validation", folder)] == sorted(FILES.values())
    yield folder
    opened.cache_clear()


def loaded(file: Path) -> Any:
    spec = spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def template_score() -> float:
    with Referee(Task(NAME), "validation", max_slowdown=1000, memory_mib=512) as referee:
        (verdict,) = referee.judge([Task(NAME).template])
    assert verdict.score is not None
    return verdict.score


def test_openevolve_gets_the_quality_and_0_for_failures(folder: Path, template_score: float, tmp_path: Path) -> None:
    evaluate = loaded(folder / "evaluator.py").evaluate
    quality = Task(NAME).quality(template_score, "validation")
    assert evaluate(str(folder / "initial_program.py")) == {"combined_score": quality, "is_valid": 1.0}
    (tmp_path / "broken.py").write_text(BROKEN)
    assert evaluate(str(tmp_path / "broken.py")) == {"combined_score": 0.0, "is_valid": 0.0}


def test_openevolve_starts_from_the_template_with_the_task_as_its_message(folder: Path) -> None:
    first, *lines, last = (folder / "initial_program.py").read_text().splitlines()
    assert (first, last) == ("# EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-END")
    assert "\n".join(lines) == Task(NAME).template.strip()
    config = YAML(typ="safe").load((folder / "config.yaml").read_text())
    assert config["prompt"]["system_message"].strip() == Task(NAME).description


def test_llm4ad_gets_the_score_and_none_for_failures(
    folder: Path, template_score: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = ModuleType("llm4ad.base")  # the package is not among ours; of its class we need that it keeps options

    class Evaluation:
        def __init__(self, **options: Any) -> None:
            self.options = options

    base.Evaluation = Evaluation  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llm4ad", ModuleType("llm4ad"))
    monkeypatch.setitem(sys.modules, "llm4ad.base", base)
    evaluation = loaded(folder / "llm4ad_evaluation.py").TspConstructEvaluation()
    assert evaluation.options["template_program"] == Task(NAME).template
    assert evaluation.evaluate_program(Task(NAME).template, None) == template_score
    assert evaluation.evaluate_program(BROKEN, None) is None


def test_a_task_outside_the_package_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dartune.tasks, "__path__", [*dartune.tasks.__path__])
    add_folder(write_skeleton("my_shop", tmp_path / "tasks").parent)
    write_evaluators(Task("my_shop"), "train", tmp_path / "out")
    monkeypatch.setattr(dartune.tasks, "__path__", dartune.tasks.__path__[:1])  # as elsewhere
    result = loaded(tmp_path / "out/evaluator.py").evaluate(str(tmp_path / "out/initial_program.py"))
    assert result["is_valid"] == 1.0 and 0.5 < result["combined_score"] < 0.8
    opened.cache_clear()
    for name in [name for name in sys.modules if name.startswith("dartune.tasks.my_shop")]:
        del sys.modules[name]


def test_an_unknown_split_and_a_full_folder_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tsp_construct: there is no split 'tets'"):
        write_evaluators(Task(NAME), "tets", tmp_path / "new")
    with pytest.raises(UserError, match=r"^task: .*tsp is not empty; give another folder$"):
        write_evaluators(Task(NAME), "train", folder)
    with pytest.raises(UserError, match=r"^task: .*out lies in the task's own folder; give another$"):
        write_evaluators(Task(NAME), "train", Task(NAME).folder / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^task: .*file cannot be made: File exists; give another folder$"):
        write_evaluators(Task(NAME), "train", tmp_path / "file")
