"""The whole pipeline, tiny, on a real model, DVC, TRL and Prefect; then what reruns when."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import project_copy
from dartune.report.summary import PLOTS
from project_copy import TASK, commit, copy_project, edit, run, set_params
from warm_python import warm_python


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working tree with tiny parameters and one commit; its stages start warm."""
    folder = tmp_path_factory.mktemp("project")
    copy_project(folder, [TASK])
    with warm_python() as warm, pytest.MonkeyPatch.context() as patch:
        patch.setattr(project_copy, "BIN", warm)
        yield folder


def fly(folder: Path, server: str, *arguments: str, is_ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the flow as `make run` does, in a Prefect server that is there already."""
    return run(folder, "env", f"PREFECT_API_URL={server}", "python3", "flows/finetune.py", *arguments, is_ok=is_ok)


def repro(folder: Path, *targets: str) -> set[str]:
    """Run `dvc repro`; the names of the stages whose commands ran, without the task."""
    output = run(folder, "dvc", "repro", *targets).stdout
    return {name.split("@")[0] for name in re.findall(r"Running stage '([^']+)'", output)}


@pytest.fixture(scope="module")
def flown(project: Path, prefect_server: str) -> subprocess.CompletedProcess[str]:
    """The first run, through the flow."""
    assert repro(project, "modules") <= {"modules"}
    said = run(project, "dvc", "status", "embedded").stdout
    assert said == "Data and pipelines are up to date.\n", f"the committed embedded model would be trained anew: {said}"
    result = fly(project, prefect_server)
    commit(project, "first run")
    return result


AFTER_POOL = {"score", "sample", "pairs", "train", "rounds", "evaluate", "search", "report"}


def test_the_flow_runs_every_stage_but_the_model_that_is_committed(project: Path, flown) -> None:
    states = dict(re.findall(r"^(\w+)(?:@\w+)? +(Completed|Cached|Restored) ", flown.stdout, re.MULTILINE))
    assert states == {
        "modules": "Cached",
        "embedded": "Cached",
        "base": "Completed",
        "referee": "Completed",
        "pool": "Completed",
        "baseline": "Completed",
        **dict.fromkeys(AFTER_POOL, "Completed"),
    }
    assert "base against tuned" in flown.stdout.lower()
    assert re.search(r"^report: .*report/index.html$", flown.stdout, re.MULTILINE)


def test_the_first_run_leaves_tables_metrics_and_a_report(project: Path, flown) -> None:
    import pyarrow.parquet as pq

    assert len(pq.read_table(project / f"data/pool/{TASK}.parquet")) == 60
    assert len(pq.read_table(project / f"data/evaluation/{TASK}.parquet")) == 40
    assert json.loads((project / f"metrics/train/{TASK}.json").read_text())["n_pairs"] == 8
    assert set(json.loads((project / f"metrics/evaluate/{TASK}.json").read_text())) == {"test"}
    assert (project / "report/index.html").stat().st_size > 10_000
    assert len(pq.read_table(project / f"data/search/{TASK}.parquet")) == 2 * 2 * 12
    searches = json.loads((project / f"metrics/search/{TASK}.json").read_text())
    assert {name: found["n_seeds"] for name, found in searches.items()} == {"funsearch": 2}
    assert json.loads((project / f"metrics/pool/{TASK}.json").read_text())["n_programs"] == 60
    for stage in ("pool", "score", "sample", "pairs", "train", "baseline", "evaluate", "search"):
        assert json.loads((project / f"metrics/resources/{stage}/{TASK}.json").read_text())["seconds"] > 0


def test_nothing_runs_the_second_time(project: Path, flown, prefect_server: str) -> None:
    again = fly(project, prefect_server).stdout
    assert set(re.findall(r"^\w+(?:@\w+)? +(\w+) +[\d.]+ s$", again, re.MULTILINE)) == {"Cached"}
    assert repro(project) == set()
    assert run(project, "git", "status", "--porcelain").stdout == ""


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
    assert all(f"report_plots_{name}_csv" in page for name in PLOTS) and page.count('"line": "rejected"') >= 4


def test_a_pair_leads_back_to_its_programs_and_the_commit(project: Path, flown) -> None:
    import pyarrow.parquet as pq

    pair = pq.read_table(project / f"data/pairs/{TASK}.parquet").to_pylist()[2]
    pool = {row["id"]: row for row in pq.read_table(project / f"data/pool/{TASK}.parquet").to_pylist()}
    found = json.loads(run(project, "dartune", "trace", pair["pair"], "--json").stdout)
    assert (found["pair"], found["task"], found["margin"]) == (pair["pair"], TASK, pair["margin"])
    for role in ("chosen", "rejected"):
        written = pool[pair[f"{role}_id"]]
        assert {key: found[role][key] for key in written if key != "task"} == {
            key: value for key, value in written.items() if key != "task"
        }
        assert found[role]["score"] == pair[f"{role}_score"] and found[role]["split"] == "train"
        assert found[role]["max_slowdown"] == 1000 and len(found[role]["task_version"]) == 16
    committed = run(project, "git", "log", "--format=%H", "--grep=first run").stdout.strip()
    assert found["commit"] == committed
    words = run(project, "dartune", "trace", pair["pair"]).stdout
    assert pair["chosen_id"] in words and 'model: "' in words and committed in words


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


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (f"{TASK}-99999", r"there is no pair 'admissible_set-99999' in data/pairs/admissible_set\.parquet"),
        ("admisible_set-00001", "names no task; did you mean 'admissible_set'"),
        ("tsp_construct-00001", r"tsp_construct\.parquet is missing; pairs@tsp_construct makes it"),
    ],
)
def test_a_pair_that_is_not_there_is_refused_in_one_line(project: Path, flown, pair: str, message: str) -> None:
    result = run(project, "dartune", "trace", pair, is_ok=False)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and re.search(message, result.stderr)


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
