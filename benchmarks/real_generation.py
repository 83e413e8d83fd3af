"""Tokens and programs a second of a real model on a CPU, beside our code as it was and other engines, in one run.

`make bench-generation PRESETS="qwen2.5-coder-0.5b"`. The rate is that of N_ROWS answers of N_TOKENS tokens to one
prompt, its reading included, in a process of its own: an engine that is open and idle slows the others. Before it, the
process writes as many to another prompt. Programs a second are that rate by the tokens that an answer takes, measured
once with a limit of LIMIT tokens: to its end, or to the end of its program. The order of the ways changes from round to
round.

    as it was      one thread, float32, all of the vocabulary sorted, whole answers to the plain prompt
    ours           as the preset says
    generate       transformers' own, same numbers and threads, whole answers
    generate_batch transformers' continuous batching, the same
    openvino       OpenVINO GenAI's continuous batching of the GGUF file, where requirements-bench.in is installed and
                   it opens the file: SmolLM2's, not that of Qwen2.5-Coder-0.5B. A short answer comes first, so that its
                   cache has the prompt. It quantises activations to eight bits, too
    llama.cpp      llama.cpp's server with the GGUF file, where requirements-bench.in is installed; all answers are of
                   one request, so its prompt is read once
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dartune import params
from dartune.base_model.base import write_base
from dartune.models import nucleus
from dartune.models.backend import Decoding
from dartune.models.fetched import record
from dartune.models.host import run_settings
from dartune.models.transformers_backend import TransformersBackend
from dartune.tasks.task import Task

BASE = Path(".work/generation/base")
TASK, OTHER_TASK = "tsp_construct", "cvrp_construct"
N_ROWS, N_TOKENS, LIMIT, N_ROUNDS = 64, 64, 320, 3
SHORT = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=N_TOKENS)
MOST_PROMPT = 1024  # tokens
WHOLE = 2**20  # tokens to sort: more than any vocabulary has
Write = Callable[[str, int], int]  # prompt, seed -> tokens written


def main() -> None:
    """Print the table of one preset, or the rate of one way."""
    preset, *rest = sys.argv[1:]
    if rest:
        print_rate(preset, rest[0], int(rest[1]))
    else:
        print_table(preset)


def print_table(preset: str) -> None:
    """Print the rate of each way, in turns."""
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(N_ROUNDS):
        for way in (list(rates), list(reversed(rates)))[number % 2]:
            if (rate := rate_of(preset, way, number)) is None:
                del rates[way]
            else:
                rates[way].append(rate)
    ours, task, _ = opened(preset)
    lengths = answer_lengths(ours, task)
    print(f"{preset}, {ours.model.dtype}, {ours.run_settings['threads']} threads")
    print("| way | tokens/s | tokens an answer | programs/s | tokens/s of it, ours = 1 |\n|---|---|---|---|---|")
    for way, values in rates.items():
        rate, n_tokens = statistics.median(values), lengths.get(way, lengths["generate"])
        shares = sorted(value / mine for value, mine in zip(values, rates["ours"], strict=True))
        spread = f"{statistics.median(shares):.2f} ({shares[0]:.2f}-{shares[-1]:.2f})"
        print(f"| {way} | {rate:.0f} | {n_tokens:.0f} | {rate / n_tokens:.2f} | {spread} |", flush=True)


def rate_of(preset: str, way: str, seed: int) -> float | None:
    """Return the tokens a second of a way, measured in a process of its own; None where it cannot be had."""
    command = [sys.executable, __file__, preset, way, str(seed)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return float(printed[-1]) if printed else None


def print_rate(preset: str, way: str, seed: int) -> None:
    """Print a way's tokens a second, on stderr why it is left out where it cannot be opened."""
    ours, task, file = opened(preset)
    try:
        write = WAYS[way](ours, file)
    except (ImportError, RuntimeError) as error:
        print(f"{way} is left out: {str(error).splitlines()[0]}", file=sys.stderr)
        return
    write(Task(OTHER_TASK, task.form).prompt, seed)
    start = time.perf_counter()
    n_tokens = write(task.prompt, seed)
    print(n_tokens / (time.perf_counter() - start))


def opened(preset: str) -> tuple[TransformersBackend, Task, Path]:
    """Return our back end, the task, and the file that the model is fetched as."""
    section = params.read(Path(f"presets/{preset}.yaml"))["base"]
    write_base(BASE, Path("models/embedded"), **section)
    task = Task(TASK, run_settings(BASE)["prompt"])
    return TransformersBackend(BASE, function=task.function), task, Path(record(section["model"])["model"])


def answer_lengths(ours: TransformersBackend, task: Task) -> dict[str, float]:
    """Return the mean number of tokens of an answer by way; that of `generate` is the others', too."""
    return {
        "as it was": tokens_of_an_answer(ours, Task(TASK), is_whole=True),
        "ours": tokens_of_an_answer(ours, task, is_whole=False),
        "generate": tokens_of_an_answer(ours, task, is_whole=True),
    }


def tokens_of_an_answer(ours: TransformersBackend, task: Task, is_whole: bool) -> float:
    """Return the mean number of tokens of an answer, to its end or to the end of its program."""
    ours.function = "" if is_whole else task.function
    decoding = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=LIMIT)
    answers = ours.complete([task.prompt] * N_ROWS, seed=0, decoding=decoding)
    return statistics.mean(answer.n_tokens for answer in answers)


def written(ours: TransformersBackend, file: Path) -> Write:
    """Return what writes by our back end."""

    def write(prompt: str, seed: int) -> int:
        return sum(answer.n_tokens for answer in ours.complete([prompt] * N_ROWS, seed=seed, decoding=SHORT))

    return write


def as_it_was(ours: TransformersBackend, file: Path) -> Write:
    """Return what writes by it with one thread, in float32, with all of the vocabulary sorted."""
    ours.run_settings, nucleus.N_LIKELY = {**ours.run_settings, "threads": 1}, WHOLE
    ours.model.float()
    return written(ours, file)


def settings() -> dict[str, Any]:
    """Return the arguments of transformers' generation that match SHORT."""
    return {"do_sample": True, "temperature": 1.0, "top_p": 0.95, "top_k": 0, "max_new_tokens": N_TOKENS}


def generated(ours: TransformersBackend, file: Path) -> Write:
    """Return what writes by transformers' generate."""
    torch.set_num_threads(ours.run_settings["threads"])
    pad = ours.tokenizer.pad_token_id

    @torch.inference_mode()
    def write(prompt: str, seed: int) -> int:
        torch.manual_seed(seed)
        ids = torch.tensor([ours._ids(prompt, N_TOKENS)] * N_ROWS)
        more = {"attention_mask": torch.ones_like(ids), "pad_token_id": pad}
        out = ours.model.generate(input_ids=ids, **more, **settings())
        return int((out[:, ids.shape[1] :] != pad).sum())

    return write


def batched(ours: TransformersBackend, file: Path) -> Write:
    """Return what writes by transformers' generate_batch."""
    from transformers import GenerationConfig

    torch.set_num_threads(ours.run_settings["threads"])
    marks = {"eos_token_id": ours.model.generation_config.eos_token_id, "pad_token_id": ours.tokenizer.pad_token_id}

    def write(prompt: str, seed: int) -> int:
        torch.manual_seed(seed)
        config = GenerationConfig(**settings(), **marks)
        prompts = [ours._ids(prompt, N_TOKENS)] * N_ROWS
        found = ours.model.generate_batch(inputs=prompts, generation_config=config, progress_bar=False)
        return sum(len(one.generated_tokens) for one in found.values())

    return write


def openvino(ours: TransformersBackend, file: Path) -> Write:
    """Return what writes by OpenVINO's pipeline for a GGUF file."""
    from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, SchedulerConfig

    scheduler = SchedulerConfig()
    scheduler.cache_size, scheduler.max_num_seqs, scheduler.enable_prefix_caching = 4, N_ROWS, True
    threads = {"INFERENCE_NUM_THREADS": ours.run_settings["threads"]}
    pipeline = ContinuousBatchingPipeline(str(file), scheduler, "CPU", threads)

    def write(prompt: str, seed: int) -> int:
        config = GenerationConfig()
        config.do_sample, config.temperature, config.top_p, config.rng_seed = True, 1.0, 0.95, seed
        config.max_new_tokens = 1
        pipeline.generate([as_chat(ours, prompt)], [config])
        config.max_new_tokens = N_TOKENS
        results = pipeline.generate([as_chat(ours, prompt)] * N_ROWS, [config] * N_ROWS)
        return n_tokens_of(ours, [text for result in results for text in result.m_generation_ids])

    return write


def llama_cpp(ours: TransformersBackend, file: Path) -> Write:
    """Return what writes by llama.cpp's server for a GGUF file."""
    from xllamacpp import CommonParams, Server, get_system_info

    print(get_system_info(), file=sys.stderr)  # the instructions that it was built for; those of its wheel are few
    wanted = CommonParams()
    wanted.model.path, wanted.n_parallel, wanted.kv_unified, wanted.verbosity = str(file), N_ROWS, True, 1
    wanted.n_ctx = MOST_PROMPT + N_ROWS * N_TOKENS
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = ours.run_settings["threads"]
    server = Server(wanted)

    def write(prompt: str, seed: int) -> int:
        asked = {"prompt": as_chat(ours, prompt), "n": N_ROWS, "seed": seed, "n_predict": N_TOKENS}
        answer = server.handle_completions(asked | {"temperature": 1.0, "top_p": 0.95, "top_k": 0, "min_p": 0.0})
        return n_tokens_of(ours, [choice["text"] for choice in answer["choices"]])

    return write


def as_chat(ours: TransformersBackend, prompt: str) -> str:
    """Return a prompt as the model's chat template has it."""
    turns = [{"role": "user", "content": prompt}]
    return str(ours.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))


def n_tokens_of(ours: TransformersBackend, texts: list[str]) -> int:
    """Return the tokens of texts, counted by our tokenizer."""
    return sum(len(ours.tokenizer(text)["input_ids"]) for text in texts)


WAYS: dict[str, Callable[[TransformersBackend, Path], Write]] = {
    "as it was": as_it_was,
    "ours": written,
    "generate": generated,
    "generate_batch": batched,
    "openvino": openvino,
    "llama.cpp": llama_cpp,
}

if __name__ == "__main__":
    main()
