"""A real OpenAI-compatible server, `transformers serve`, over a tiny model."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from sysconfig import get_path
from typing import Any

import pytest

from byte_llama import write_byte_llama
from completion_server import (
    DECODING,
    described,
    wait_until_healthy,
)
from dartune.models.backend import Backend
from dartune.models.openai_backend import open_server
from one_line_errors import refused
from ports import free_port

CHAT = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights over single bytes, which draws its tokens."""
    write_byte_llama(folder := tmp_path_factory.mktemp("tiny"), CHAT, do_sample=True)
    return folder


@pytest.fixture(scope="module")
def real_server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Keys of the description of `transformers serve`."""
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    command = [Path(get_path("scripts")) / "transformers", "serve", str(tiny_model), "--device", "cpu"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=output, stderr=output, env=offline
        ) as process,
    ):
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
            yield {"url": f"http://127.0.0.1:{port}/v1", "model": str(tiny_model), "timeout_s": 60, "retries": 0}
        finally:
            process.kill()


def test_a_real_server_completes_prompts_in_order_with_counts_and_ends(
    real_server: dict[str, Any], tmp_path: Path
) -> None:
    server: Backend = open_server(described(tmp_path, **real_server))
    prompts = ["a" * length for length in (5, 1, 9, 3)]
    answers = server.complete(prompts, seed=0, decoding=DECODING)
    # A token is a byte; the chat template adds one at the end, and `transformers serve` none of its own.
    assert [answer.n_prompt_tokens for answer in answers] == [6, 2, 10, 4]
    assert all(1 <= answer.n_tokens <= 16 for answer in answers)
    assert [answer.finish for answer in answers] == ["length" if a.n_tokens == 16 else "stop" for a in answers]
    assert len({answer.text for answer in answers}) == 4


def test_a_real_server_draws_the_same_from_the_same_seed(real_server: dict[str, Any], tmp_path: Path) -> None:
    server = open_server(described(tmp_path, **real_server, concurrency=1))  # its chance is shared by all requests
    first, again, other = (server.complete(["ab", "ab"], seed=seed, decoding=DECODING) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[0].text != first[1].text  # equal prompts of a batch have seeds of their own


def test_a_real_servers_refusal_is_repeated(real_server: dict[str, Any], tmp_path: Path) -> None:
    server = open_server(described(tmp_path, **real_server | {"model": "other"}))
    message = refused(lambda: server.complete(["a"], seed=0, decoding=DECODING))
    assert "answered HTTP 400: Server is pinned to" in message
