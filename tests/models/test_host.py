"""How a model runs here: cores shared by stages, a number format the processor has, rows that fit into memory."""

import os
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from dartune.errors import UserError
from dartune.models import host
from dartune.models.host import PLAIN, cpu_dtype, n_rows, row_bytes, run_settings, write_run

GIB = 2**30


def model_of(n_weights: int, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A model of Llama-3.2-1B's keys and values, with few weights: 16 layers of 8 heads of 64."""
    config = SimpleNamespace(num_hidden_layers=16, num_key_value_heads=8, head_dim=64, num_attention_heads=32)
    weights = [torch.empty(n_weights, dtype=dtype, device="meta")]
    return SimpleNamespace(config=config, dtype=dtype, device=torch.device("cpu"), parameters=lambda: weights)


@pytest.fixture
def sixteen_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * GIB, available=16 * GIB))
    monkeypatch.setattr(host, "group_limits", lambda: [])
    monkeypatch.delenv("DARTUNE_STAGES", raising=False)


def test_threads_are_those_of_the_base_folder_or_the_cores_of_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_settings(tmp_path) == PLAIN
    write_run(tmp_path, threads=3, dtype=None, stop_after_program=True, prompt="block")
    assert run_settings(tmp_path) == {"threads": 3, "dtype": None, "stop_after_program": True, "prompt": "block"}
    write_run(tmp_path, threads=None, dtype=None, stop_after_program=False, prompt="plain")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    found = []
    for n_stages in ("", "1", "2", "20"):
        monkeypatch.setenv("DARTUNE_STAGES", n_stages)
        found.append(run_settings(tmp_path)["threads"])
    assert found == [8, 8, 4, 1]


@pytest.mark.parametrize(("amx", "avx512", "dtype"), [(False, False, "float32"), (True, False, "bfloat16")])
def test_bfloat16_is_taken_where_it_is_stored_and_multiplied(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, dtype: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert cpu_dtype(None, torch.bfloat16) == getattr(torch, dtype)
    assert cpu_dtype(None, torch.float32) == cpu_dtype("float32", torch.bfloat16) == torch.float32


@pytest.mark.usefixtures("sixteen_gib")
def test_rows_take_half_of_the_memory_that_the_weights_leave() -> None:
    model = model_of(4 * GIB // 2)
    assert row_bytes(model, 1024) == 2 * 16 * 8 * 64 * 1024 * 2 == GIB // 32
    assert n_rows(model, 1024, 1000) == (16 - 4) // 2 * 32
    assert n_rows(model, 1024, 100) == 100


@pytest.mark.usefixtures("sixteen_gib")
def test_stages_side_by_side_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTUNE_STAGES", "2")
    assert n_rows(model_of(4 * GIB // 2), 1024, 1000) == (16 // 2 - 4) // 2 * 32


@pytest.mark.usefixtures("sixteen_gib")
def test_a_model_that_leaves_no_room_for_one_row_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"take 0\.03 GiB for 1024 tokens, and there are 0\.00 GiB for them"):
        n_rows(model_of(17 * GIB // 2), 1024, 100)


@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="of glibc")
def test_freed_memory_between_what_is_kept_goes_back_to_the_system() -> None:
    blocks = [bytearray(100_000) for _ in range(3000)]  # 300 MB, below the size from which each is mapped alone
    kept = blocks[::30]
    before = psutil.Process().memory_info().rss
    del blocks
    host.release_memory()
    assert len(kept) == 100 and before - psutil.Process().memory_info().rss > 200e6


def page_faults_of_large_blocks() -> int:
    """How many pages the kernel maps while ten blocks of 64 MiB are filled and freed, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="of glibc")
def test_large_blocks_are_mapped_once_where_memory_is_kept() -> None:
    before, anew = psutil.Process().memory_info().rss, page_faults_of_large_blocks()
    with host.kept_memory():
        page_faults_of_large_blocks()  # each place that is free in the heap is mapped once
        assert page_faults_of_large_blocks() < 0.1 * anew
        assert psutil.Process().memory_info().rss - before > 50e6
    assert psutil.Process().memory_info().rss - before < 10e6
