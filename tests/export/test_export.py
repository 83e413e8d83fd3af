"""Export: folders that plain transformers and PEFT open by the code of their own cards."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from completion_server import described, wait_until_healthy
from dartune import cli
from dartune.errors import UserError
from dartune.export.export import export, write_merged
from dartune.tasks.task import Task
from finished_project import EXPORTS, GREEDY, HUB, REVISION, TASK, card, new_adapter, new_model, tuned_folder
from ports import free_port


@pytest.fixture(scope="module")
def opened(project: Path) -> dict[str, Any]:
    """What each export says when the code of its own card has opened it, without dartune."""
    return {name: run_card(project / "out" / name) for name in EXPORTS}


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
    for name in EXPORTS:
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
    assert capsys.readouterr().out == (
        "empty: weights (there is no adapter to merge), with tokenizer, prompt.md and model card (README.md)\n"
    )
    assert {file.name for file in Path("empty").iterdir()} == {file.name for file in Path("out/weights").iterdir()}
