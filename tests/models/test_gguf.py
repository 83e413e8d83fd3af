"""GGUF files: what is opened equals, weight by weight, what was put in. The tests write the files themselves."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dartune.base_model.base import write_base
from dartune.errors import UserError
from dartune.models import gguf
from dartune.models.backend import Decoding
from dartune.models.checkpoint import open_tokenizer, pretrained_arguments, revision, weights_of
from dartune.models.host import PLAIN
from dartune.models.transformers_backend import TransformersBackend
from tiny_gguf import KINDS, write_gguf


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DARTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_every_weight_is_what_the_file_holds(architecture: str, kind: str, tmp_path: Path) -> None:
    expected = write_gguf(tmp_path / "model.gguf", architecture, kind)
    folder = gguf.converted(tmp_path / "model.gguf")
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() - {"lm_head.weight"} == expected.keys()
    for name, values in expected.items():
        assert weights[name].dtype == torch.bfloat16
        assert torch.equal(weights[name], torch.from_numpy(values.copy()).to(torch.bfloat16)), name
    origin = json.loads((folder / gguf.ORIGIN).read_text())
    assert (origin["architecture"], origin["quantisation"].startswith(kind)) == (architecture, True)


def test_a_base_model_from_a_file_writes_and_says_what_it_is(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", "Q8_0")
    base = tmp_path / "base"
    write_base(base, Path("unused"), model=str(tmp_path / "model.gguf"), revision=None, **PLAIN)
    assert weights_of(base) == "quantised to Q8_0" and revision(base) == gguf.sha256(tmp_path / "model.gguf")
    assert open_tokenizer(base).eos_token == "</s>"
    decoding = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=8)
    completions = TransformersBackend(base).complete(["Hello"] * 2, seed=0, decoding=decoding)
    assert [completion.n_prompt_tokens > 0 for completion in completions] == [True, True]


def test_a_file_is_converted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", "F16")
    first = gguf.converted(tmp_path / "model.gguf")
    capsys.readouterr()
    assert gguf.converted(tmp_path / "model.gguf") == first and capsys.readouterr().err == ""


def test_another_file_under_the_same_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "llama", "F16")
    write_base(tmp_path / "base", Path("unused"), model=str(file), revision=None, **PLAIN)
    write_gguf(file, "qwen2", "F16")
    gguf.sha256.cache_clear()  # as in another process
    with pytest.raises(
        UserError, match=r"model\.gguf is another file than when .*base was made; run: dvc repro -f base"
    ):
        pretrained_arguments(tmp_path / "base")


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "llama", "F16")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"model\.gguf (is cut|is no whole GGUF file)"):
        write_base(tmp_path / "base", Path("unused"), model=str(file), revision=None, **PLAIN)


@pytest.mark.parametrize("content", [b"", b"no weights", b"GGUF" + b"\x00" * 40])
def test_what_is_no_such_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.gguf is no whole GGUF file") as caught:
        gguf.read_header(tmp_path / "model.gguf")
    assert "\n" not in str(caught.value)


def test_an_architecture_that_transformers_does_not_read_is_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "rwkv6", "F16")
    with pytest.raises(UserError, match=r"\(rwkv6\) cannot be opened: ") as caught:
        gguf.converted(tmp_path / "model.gguf")
    assert "\n" not in str(caught.value)


def test_a_disk_without_room_is_told_before_the_conversion(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"takes 200000\.0 GiB, and .* GiB left; set DARTUNE_CACHE"):
        gguf.refuse_full_disk(tmp_path / "model.gguf", tmp_path / "folder", 100_000 * 2**30)
