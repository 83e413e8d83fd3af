"""The whole pipeline, tiny, after a first run: what runs again when something is edited."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dartune.report.summary import PLOTS
from project_copy import AFTER_POOL, TASK, commit, edit, fly, repro, run, set_params, warm_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    with warm_project(folder):
        yield folder


@pytest.fixture(scope="module")
def flown(project: Path, prefect_server: str) -> None:
    """The first run, through the flow."""
    fly(project, prefect_server)
    commit(project, "first run")


def test_another_beta_by_an_experiment_runs_training_and_what_follows(project: Path, flown) -> None:
    beta = "presets/embedded.yaml:trainers.dpo.beta=0.2"
    output = run(project, "dvc", "exp", "run", "-S", beta, "-n", "beta").stdout
    ran = {name.split("@")[0] for name in re.findall(r"Running stage '([^']+)'", output)}
    assert ran == {"modules", "train", "rounds", "evaluate", "search", "report"}
    assert "beta" in run(project, "dvc", "exp", "show", "--csv").stdout
    before, after = run(project, "git", "rev-parse", "HEAD").stdout.strip(), commit(project, "beta")
    assert "trainers.dpo.beta" in run(project, "dvc", "params", "diff", before, after).stdout
    assert f"{TASK}.test.mean" in run(project, "dvc", "metrics", "diff", "--all", before, after).stdout
    run(project, "dvc", "plots", "diff", before, after, "-o", ".work/plots")
    page = (project / ".work/plots/index.html").read_text()
    assert all(f"plots_report_{name}_csv" in page for name in PLOTS) and page.count('"line": "rejected"') >= 4


def test_another_mixture_draws_other_pairs_and_the_data_sheet_says_so(project: Path, flown) -> None:
    mixture = "sample.strategy={dar:0.5,uniform:0.5}"
    output = run(project, "dvc", "exp", "run", "-n", "mixture", "-S", mixture, f"pairs@{TASK}").stdout
    assert {name.split("@")[0] for name in re.findall(r"Running stage '([^']+)'", output)} == {
        "modules",
        "sample",
        "pairs",
    }
    assert "`uniform`: 4 pairs" in (project / f"metrics/sample/{TASK}.md").read_text()
    found = json.loads(run(project, "dartune", "trace", f"{TASK}-00008", "--json").stdout)
    assert found["strategy"] == "uniform" and found["commit"] is None
    run(project, "git", "checkout", "-q", ".")
    run(project, "dvc", "checkout", "-q")


def test_another_evaluation_setting_runs_evaluation_and_report(project: Path, flown) -> None:
    set_params(project, {"evaluate": {"n_samples": 24}})
    assert repro(project) == {"modules", "baseline", "evaluate", "report"}
    set_params(project, {"evaluate": {"memory_mib": 500}})
    assert repro(project) == {"modules", "evaluate"}  # with the same result


def test_an_edited_report_or_a_trainer_that_is_not_used_trains_nothing(project: Path, flown) -> None:
    edit(project, "src/dartune/report/report.html.jinja", "</body>", "<p>edited</p></body>")
    set_params(project, {"trainers": {"grpo": {"beta": 0.07}}})
    assert repro(project) == {"modules", "report"}
    assert "<p>edited</p>" in (project / "report/index.html").read_text()


def test_an_edited_referee_scores_and_what_follows_but_writes_no_pool(project: Path, flown) -> None:
    edit(project, f"src/dartune/tasks/{TASK}/cost.py", "float((3 ** ", "1.0 + float((3 ** ")
    assert repro(project, f"pairs@{TASK}") == {"modules", "referee", "score", "sample", "pairs"}
    waiting = json.loads(run(project, "dvc", "status", "--json").stdout)
    assert {name.split("@")[0] for name in waiting} == {"train", "rounds", "evaluate", "search"}


def test_a_search_pool_depends_on_the_referee_and_its_own_options_only(project: Path, flown) -> None:
    set_params(project, {"pool": {"method": "climb"}})
    assert repro(project, f"pool@{TASK}") == {"modules", "pool"}
    set_params(project, {"methods": {"eoh": {"population": 10, "n_parents": 2}}})
    assert repro(project, f"pool@{TASK}") == {
        "modules",
        "referee",
    }  # which writes the same for this method: no pool runs
    edit(project, f"src/dartune/tasks/{TASK}/cost.py", "1.0 + float((3 ** ", "2.0 + float((3 ** ")
    assert repro(project, f"pool@{TASK}") == {"modules", "referee", "pool"}


def test_a_pool_too_small_stops_the_run_with_one_line(project: Path, flown, prefect_server: str) -> None:
    result = fly(
        project,
        prefect_server,
        "--set",
        "sample.options.dar={one_per: score_signature, n_subsets: 40, gap: 39, tau: 3.0}",
        is_ok=False,
    )
    assert result.returncode == 1
    assert re.fullmatch(
        r"sample: \d+ distinct programs of admissible_set with \d+ scores are ok; 80 with 40 are the least for dar\. "
        r"Raise pool\.n_programs, let a larger model write \(pool\.source\), or take another one_per",
        result.stderr.strip().splitlines()[-1],
    )


def test_a_task_in_a_folder_of_ones_own_runs_its_own_stages_only(project: Path, flown) -> None:
    def waiting() -> set[str]:
        return set(json.loads(run(project, "dvc", "status", "--json").stdout))

    before = waiting()
    run(project, "dartune", "task", "new", "my_jobs")
    (project / "tasks/unfinished").mkdir()
    (project / "tasks/unfinished/prompt.md").write_text("To be written.\n")
    (project / "tasks/unfinished/cost.py").write_text("def compute_costs(:\n")
    set_params(project, {"tasks": [TASK, "my_jobs"], "task_folder": "tasks"})
    assert repro(project, "score@my_jobs") == {"modules", "referee", "pool", "score"}
    assert not list((project / "tasks").rglob("__pycache__"))  # DVC would see another folder
    later = {f"{stage}@my_jobs" for stage in AFTER_POOL - {"score", "report"} | {"baseline"}}
    assert waiting() - before - {"report"} == later
