"""Export: folders that plain transformers and PEFT open, with cards that agree with the files of the run."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from completion_server import described, wait_until_healthy
from dartune import cli
from dartune.errors import UserError
from dartune.export import lineage
from dartune.export.export import export, write_merged
from dartune.export.provenance import md5
from dartune.models.backend import Decoding
from dartune.models.checkpoint import open_tokenizer
from dartune.tasks.task import Task
from finished_project import (
    HUB,
    REVISION,
    SAMPLED,
    TASK,
    TRAINED,
    git,
    new_adapter,
    new_model,
    new_project,
    record,
    relock,
    tuned_folder,
)
from ports import free_port

GREEDY = Decoding(temperature=1.0, top_p=1e-9, max_new_tokens=12)  # the likeliest token alone is drawn from


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the Hub that holds one model at one revision, and no network."""
    import huggingface_hub.constants as constants

    cache = tmp_path_factory.mktemp("hub")
    repository = cache / f"models--{HUB.replace('/', '--')}"
    new_model(repository / "snapshots" / REVISION, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield cache


@pytest.fixture(scope="module")
def project(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Exports in out/: adapter, merged, weights and still-weights, of an adapter first and weights later.

    dvc.lock is of the weights. expected.json has what dartune's own model says.
    """
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("project")
    new_project(folder)
    with pytest.MonkeyPatch.context() as patch:
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
        yield folder


def says(tuned: Path) -> dict[str, Any]:
    """Logits and greedy text of dartune's own back end."""
    import torch

    from dartune.models.transformers_backend import TransformersBackend

    backend = TransformersBackend(Path("models/base"), tuned)
    with torch.no_grad():
        logits = backend.model(torch.tensor([[5, 6, 7, 8]])).logits[0, -1].tolist()
    (written,) = backend.complete([Task(TASK).prompt], seed=0, decoding=GREEDY)
    return {"logits": logits, "text": written.text}


NAMES = ("adapter", "merged", "weights", "still-weights")


@pytest.fixture(scope="module")
def opened(project: Path) -> dict[str, Any]:
    """What each export says when the code of its own card has opened it, without dartune."""
    return {name: run_card(project / "out" / name) for name in NAMES}


def run_card(folder: Path) -> dict[str, Any]:
    """Run the code of a card in its own folder."""
    import torch

    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setitem(sys.modules, "dartune", None)  # importing it fails
        patch.chdir(folder)
        exec(code, names)
    model, inputs = names["model"].eval(), names["inputs"]
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6, 7, 8]])).logits[0, -1].tolist()
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=12)
    text = names["tokenizer"].decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    config = {key: getattr(model.generation_config, key) for key in ("eos_token_id", "pad_token_id")}
    return {"logits": logits, "text": text, "printed": printed.getvalue(), "type": type(model).__name__} | config


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


def card(name: str) -> str:
    return Path("out", name, "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "like", "kind"),
    [
        ("adapter", "adapter", "PeftModelForCausalLM"),
        ("merged", "adapter", "LlamaForCausalLM"),
        ("weights", "weights", "LlamaForCausalLM"),
        ("still-weights", "weights", "LlamaForCausalLM"),
    ],
)
def test_the_code_of_the_card_opens_the_model_that_dartune_exported(
    project: Path, opened: dict[str, Any], name: str, like: str, kind: str
) -> None:
    found, expected = opened[name], json.loads((project / "expected.json").read_text())
    assert found["type"] == kind
    assert found["logits"] == pytest.approx(expected[like]["logits"], abs=1e-5)
    assert found["text"] == expected[like]["text"] != expected["adapter" if like == "weights" else "weights"]["text"]


def test_plain_generation_ends_turns_and_samples_as_measured(here: Path, opened: dict[str, Any]) -> None:
    measured = YAML(typ="safe").load(Path("params.yaml").read_text())["evaluate"]
    for name in ("merged", "weights", "still-weights"):
        assert opened[name]["printed"].strip()
        assert (opened[name]["eos_token_id"], opened[name]["pad_token_id"]) == (1, 1)
    for name in NAMES:
        config = json.loads(Path("out", name, "generation_config.json").read_text())
        assert (config["eos_token_id"], config["pad_token_id"]) == (1, 1)  # </s>, which pads where nothing else does
        assert (config["do_sample"], config["temperature"]) == (True, measured["temperature"])
        assert (config["top_p"], config["top_k"]) == (measured["top_p"], 0)
        assert config["repetition_penalty"] == 1.0  # the base model's 1.5 would hold, were nothing said


def test_a_folder_is_in_the_layout_of_the_hub(here: Path) -> None:
    common = {"README.md", "prompt.md", "generation_config.json"}
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    adapter = {path.name for path in Path("out/adapter").iterdir()}
    assert adapter == common | tokenizer | {"adapter_config.json", "adapter_model.safetensors"}
    for name in ("merged", "weights", "still-weights"):
        assert {path.name for path in Path("out", name).iterdir()} == common | tokenizer | {
            "config.json",
            "model.safetensors",
        }
    assert Path("out/weights/model.safetensors").read_bytes() == (tuned_folder() / "model.safetensors").read_bytes()
    assert Path("out/adapter/prompt.md").read_text() == Task(TASK).prompt


def test_an_adapter_names_its_base_on_the_hub_and_no_local_folder(here: Path, hub: Path) -> None:
    config = json.loads(Path("out/adapter/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (HUB, REVISION)
    for file in Path("out").rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            assert str(here) not in file.read_text() and str(hub) not in file.read_text()


def test_the_card_has_the_numbers_of_the_files(here: Path) -> None:
    text = card("adapter")
    for line in (
        "| valid | 90.0 % | 80.0 % | −10.0 [−15.0, −5.0] worse |",
        "| mean quality | 0.401 | 0.432 | +0.031 [+0.010, +0.052] better |",
        "| mean of the top 10 | 0.600 | 0.610 | +0.010 [−0.020, +0.040] unclear |",
        "| best program | 0.700 | 0.710 | +0.010 [one seed] unclear |",
        "### Base against tuned: search `eoh`, 120 programs, 1 seed",
        "Base and tuned model wrote 70 programs each",
        "- Pairs: 317, 5 % of them held out, drawn by `dar` (313), `uniform` (7).",
        "- Steps: 76.",
        "- Left out, too long: 3 pairs.",
        "- `loss` of the held-out pairs at the end: 0.6543",
        "dpo: {beta: 0.123, learning_rate: 5e-06}",
        "90 programs a probe, judged on split `validation`.",
        "| step | validity | mean |",
        "| 38 | 0.91 | 0.43 |",
        "### Pairs of tsp_construct",
        "#### Pool",
        "- Version of the task's referee: `0a1b2c`",
        f"- Revision of the base model: `{REVISION}`",
    ):
        assert f"\n{line}" in text, line


def test_the_card_says_what_is_unclear_worse_or_was_warned_of(here: Path) -> None:
    limits = card("weights").split("\n## Limits\n")[1].split("\n## ")[0]
    assert (
        "- Unclear, neither gain nor loss is shown, split `test`: mean of the top 10 +0.010 [−0.020, +0.040].\n"
        in limits
    )
    assert "- Worse than the base model, split `test`: valid −10.0 [−15.0, −5.0].\n" in limits
    assert "search `eoh`, 120 programs, 1 seed: best program +0.010 [one seed]; mean of the ten best +0.020" in limits
    assert "step 38: validity fell: validity 0.97 to 0.91" in limits and "length bias: the longer one wins" in limits
    assert "median" not in limits and "mean quality" not in limits  # the same, and clear


def test_the_hub_reads_base_and_library_from_the_front_matter(here: Path) -> None:
    from huggingface_hub import ModelCard

    found = {name: ModelCard.load(Path("out", name, "README.md")).data.to_dict() for name in NAMES}
    for name, data in found.items():
        assert data["base_model"] == HUB and data["pipeline_tag"] == "text-generation"
        assert data["base_model_relation"] == ("adapter" if name == "adapter" else "finetune")
        assert data["library_name"] == ("peft" if name == "adapter" else "transformers")
        assert {"dartune", "dpo", TASK} <= set(data["tags"]) and ("lora" in data["tags"]) == (name == "adapter")
        assert "license" not in data and "datasets" not in data


def test_the_lineage_has_the_hashes_that_dvc_gave_and_the_commit(here: Path) -> None:
    entries = YAML(typ="safe").load(Path("dvc.lock").read_text())["stages"]
    hashes = {out["path"]: out["md5"] for entry in entries.values() for out in entry["outs"]}
    lineage_rows = card("weights").split("\n## Lineage\n")[1]
    for path in (Path("models/base"), tuned_folder(), f"data/pool/{TASK}.parquet", f"data/pairs/{TASK}.parquet"):
        assert f"| `{path}` | `{hashes[str(path)]}` |" in lineage_rows
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert f"- Commit: `{head}`, the first one whose dvc.lock has this model.\n" in lineage_rows
    assert f"- Exported at commit `{head}`, with a clean work tree.\n" in lineage_rows
    other = card("still-weights")  # dvc.yaml was changed in between
    assert f"- Exported at commit `{head}`, with uncommitted changes in the work tree.\n" in other
    assert "`, the first one" in card("merged") and f"`{head}`, the first one" not in card("merged")


def test_a_server_serves_what_was_exported(here: Path, hub: Path) -> None:
    from sysconfig import get_path

    from dartune.models.openai_backend import open_server

    port, log = free_port(), here / "serve.log"
    model = str(here / "out/merged")
    command = [Path(get_path("scripts")) / "transformers", "serve", model, "--device", "cpu"]
    address = ["--host", "127.0.0.1", "--port", str(port)]
    offline = os.environ | {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as output,
        subprocess.Popen([*command, *address], stdout=output, stderr=output, env=offline) as p,
    ):
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", p, log)
            keys = {"url": f"http://127.0.0.1:{port}/v1", "model": model, "timeout_s": 60}
            (answer,) = open_server(described(here, **keys)).complete([Task(TASK).prompt], seed=0, decoding=GREEDY)
        finally:
            p.kill()
    assert answer.text == json.loads(Path("expected.json").read_text())["adapter"]["text"]


def test_merged_weights_are_stored_as_the_base_model_is(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from dartune.export.export import stored_dtype
    from dartune.models.checkpoint import open_model

    base, tuned = tmp_path / "base", tmp_path / "tuned"
    new_model(base, seed=0, dtype="bfloat16")
    new_adapter(base, tuned)
    assert stored_dtype(base) == "bfloat16"
    write_merged(base, tuned, "bfloat16", tmp_path / "merged")
    stored = load_file(tmp_path / "merged/model.safetensors")
    expected = open_model(base, tuned).state_dict()
    assert set(stored) == set(expected)
    assert all(stored[name].equal(expected[name].bfloat16()) for name in stored)
    assert json.loads((tmp_path / "merged/config.json").read_text())["dtype"] == "bfloat16"


def test_a_card_of_the_embedded_model_says_what_it_is_not(copied: Path) -> None:
    relock(lambda: (shutil.rmtree("models/base"), new_model(Path("models/base"), seed=2)), "models/base")
    export(TASK, Path("out"), False)
    text = Path("out/README.md").read_text()
    assert "the embedded model of dartune" in text
    assert "- Not an assistant: it knows 3 tasks (admissible_set, tsp_construct, cvrp_construct) and no English" in text
    assert "base_model" not in text.split("---")[1]


def test_the_card_describes_the_round_that_made_the_model(copied: Path) -> None:
    gates = [
        {"round": 1, "is_accepted": True, "warnings": [], **{k: {"mean": v} for k, v in means.items()}}
        for means in ({"base": 0.4, "before": 0.4, "tuned": 0.5},)
    ]
    late = {"round": 2, "is_accepted": True, "warnings": [], "base": {"mean": 0.4}, "before": {"mean": 0.5}}
    rounds = {"n_rounds": 3, "kept_round": 2, "gates": [*gates, late | {"tuned": {"mean": 0.55}}]}
    folder = Path("data/rounds", TASK, "2")

    def change() -> None:
        folder.mkdir()
        Path(f"metrics/rounds/{TASK}.json").write_text(json.dumps(rounds))
        (folder / "train.json").write_text(json.dumps(TRAINED | {"steps": 99}))
        (folder / "sample.json").write_text(json.dumps(SAMPLED | {"parts": {"dar": 55}}))
        (folder / "sample.md").write_text("# Pairs of the second round\n")
        for name in ("pool", "pairs"):
            (folder / f"{name}.parquet").write_text(name)

    relock(change, f"metrics/rounds/{TASK}.json", f"data/rounds/{TASK}")
    export(TASK, Path("out"), False)
    text = Path("out/README.md").read_text()
    assert "- Steps: 99.\n" in text and "drawn by `dar` (55)" in text and "### Pairs of the second round" in text
    assert "- Rounds: 2 of 3 is the one whose model this is.\n" in text
    assert "| 2 | yes | 0.4 | 0.5 | 0.55 | none |\n" in text
    assert f"| pairs | `{folder}/pairs.parquet` | `{md5(folder / 'pairs.parquet')}` |" in text


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        (f"metrics/sample/{TASK}.json", "sample"),
        (f"metrics/sample/{TASK}.md", "sample"),
        (f"metrics/train/{TASK}.json", "train"),
        (f"metrics/evaluate/{TASK}.json", "evaluate"),
        (f"metrics/search/{TASK}.json", "search"),
        (f"data/referee/{TASK}/train.json", "referee"),
    ],
)
def test_a_missing_file_is_named_with_the_stage_that_makes_it(copied: Path, path: str, stage: str) -> None:
    Path(path).unlink()
    expected = f"export: {path} is missing; stage {stage} makes it: dvc checkout, or dvc repro {stage}@{TASK}"
    with pytest.raises(UserError, match=f"^{expected}$"):
        export(TASK, Path("out"), False)
    assert not Path("out").exists()


def test_metrics_that_are_not_of_the_run_are_refused(copied: Path) -> None:
    file = Path(f"metrics/evaluate/{TASK}.json")
    file.write_text(file.read_text().replace("0.4321", "0.9999"))
    with pytest.raises(UserError, match=rf"^export: {file} is not what stage evaluate made, by dvc\.lock"):
        export(TASK, Path("out"), False)


def test_a_model_trained_again_after_evaluation_is_refused(copied: Path) -> None:
    yaml, tuned = YAML(), str(tuned_folder())
    lock = yaml.load(lineage.LOCK.read_text())
    for out in (out for entry in lock["stages"].values() for out in entry["outs"] if out["path"] == tuned):
        out["md5"] = "0" * 32 + ".dir"
    yaml.dump(lock, lineage.LOCK)
    expected = f"export: dvc.lock: (evaluate|search)@{TASK} ran on another {tuned} than there is; run: dvc repro"
    with pytest.raises(UserError, match=expected):
        export(TASK, Path("out"), False)


def test_a_stage_that_never_ran_and_older_metrics_are_named(copied: Path) -> None:
    file = f"metrics/train/{TASK}.json"
    relock(lambda: Path(file).write_text(json.dumps({"n_pairs": 1, "too_long": []})), file)
    with pytest.raises(
        UserError, match=f"^export: {file} has no 'settings'; run stage train again: dvc repro train@{TASK}"
    ):
        export(TASK, Path("out"), False)
    lineage.LOCK.write_text(lineage.LOCK.read_text().replace(f"search@{TASK}", "search@other"))
    with pytest.raises(UserError, match=rf"^export: dvc\.lock knows no stage search@{TASK}; run it first: dvc repro"):
        export(TASK, Path("out"), False)
    lineage.LOCK.unlink()
    with pytest.raises(UserError, match=r"^export: dvc\.lock is missing; run from the root of the project"):
        export(TASK, Path("out"), False)


def test_nothing_is_written_over(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    before = card("weights")
    monkeypatch.setattr(sys, "argv", ["dartune", "export", TASK, "out/weights"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == "export: out/weights exists; name a folder that does not, or an empty one"
    with pytest.raises(UserError, match=r"^export: dvc\.yaml exists; name a folder"):
        export(TASK, Path("dvc.yaml"), False)
    with pytest.raises(UserError, match="there is no task 'tsp_constrict'; did you mean 'tsp_construct'"):
        export("tsp_constrict", Path("new"), False)
    assert card("weights") == before and not Path("new").exists()


def test_the_command_fills_an_empty_folder_and_says_what_it_wrote(here: Path, monkeypatch: Any, capsys: Any) -> None:
    Path("empty").mkdir()
    monkeypatch.setattr(sys, "argv", ["dartune", "export", TASK, "empty", "--merge"])
    cli.main()
    assert capsys.readouterr().out == "empty: weights, with tokenizer, prompt.md and model card (README.md)\n"
    assert {file.name for file in Path("empty").iterdir()} == {file.name for file in Path("out/weights").iterdir()}
