"""The model card agrees with the files of its run."""

import json
import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from dartune.export.export import export
from dartune.export.provenance import md5
from finished_project import EXPORTS, HUB, REVISION, SAMPLED, TASK, TRAINED, card, new_model, relock, tuned_folder


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


def test_the_card_says_what_was_warned_of(here: Path) -> None:
    limits = card("weights").split("\n## Limits\n")[1].split("\n## ")[0]
    assert "step 38: validity fell: validity 0.97 to 0.91" in limits and "length bias: the longer one wins" in limits


def test_the_hub_reads_base_and_library_from_the_front_matter(here: Path) -> None:
    from huggingface_hub import ModelCard

    found = {name: ModelCard.load(Path("out", name, "README.md")).data.to_dict() for name in EXPORTS}
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
    assert f"- Exported at commit `{head}-dirty`, with uncommitted changes in the work tree.\n" in other
    assert "`, the first one" in card("merged") and f"`{head}`, the first one" not in card("merged")


def test_a_card_says_how_other_engines_sample_as_was_measured(here: Path) -> None:
    for name in ("merged", "weights"):
        assert "llama-server -m model.gguf --temp 1.0 --top-p 0.95 --top-k 0 --min-p 0 --repeat-penalty 1\n" in card(
            name
        )
        assert "PARAMETER top_k 0\\nPARAMETER min_p 0\\nPARAMETER repeat_penalty 1\\n' > Modelfile\n" in card(name)
    assert "llama.cpp" not in card("adapter")  # the converter takes whole weights


def test_a_card_of_the_embedded_model_says_what_it_is_not(copied: Path) -> None:
    relock(lambda: (shutil.rmtree("models/base"), new_model(Path("models/base"), seed=2)), "models/base")
    export(TASK, Path("out"), False)
    text = Path("out/README.md").read_text()
    assert "the embedded model of dartune" in text
    names = "admissible_set, tsp_construct, cvrp_construct, online_bin_packing, max_independent_set, knapsack_bound"
    assert f"- Not an assistant: it knows 8 tasks ({names}, step_size, job_shop) and no English" in text
    assert "base_model" not in text.split("---")[1] and "llama.cpp" not in text  # whose converter refuses its tokenizer


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
