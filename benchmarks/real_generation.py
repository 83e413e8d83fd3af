"""Tokens and programs a second of a real model on a CPU, beside our code as it was and beside transformers, in one run.

`make bench-generation PRESETS="qwen2.5-coder-0.5b"`. The rate is that of N_ROWS answers of N_TOKENS tokens to one
prompt, its reading included. Programs a second are that rate by the tokens that an answer takes, measured once with a
limit of LIMIT tokens: to its end, or to the end of its program. The order of the ways changes from round to round.

    as it was      one thread, float32, all of the vocabulary sorted, whole answers to the plain prompt
    ours           as the preset says
    generate       transformers' own, same numbers and threads, whole answers
    generate_batch transformers' continuous batching, the same
    openvino       OpenVINO GenAI's continuous batching of the GGUF file, where requirements-bench.in is installed and
                   it opens the file: SmolLM2's, but not those of Qwen
    llama.cpp      llama.cpp's server, in this process, with the GGUF file, where requirements-bench.in is installed;
                   all answers are of one request, so its prompt is read once
"""

import statistics
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

TASK = "tsp_construct"
N_ROWS, N_TOKENS, LIMIT, N_ROUNDS = 64, 64, 320, 3
SHORT = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=N_TOKENS)
MOST_PROMPT = 1024  # tokens
WHOLE = 2**20  # tokens to sort: more than any vocabulary has


def main() -> None:
    """Print the table of one preset."""
    base = Path(".work/generation/base")
    section = params.read(Path(f"presets/{sys.argv[1]}.yaml"))["base"]
    write_base(base, Path("models/embedded"), **section)
    task = Task(TASK, run_settings(base)["prompt"])
    ours = TransformersBackend(base, function=task.function)
    lengths = {
        "as it was": tokens_of_an_answer(ours, Task(TASK), is_whole=True),
        "ours": tokens_of_an_answer(ours, task, is_whole=False),
        "generate": (whole := tokens_of_an_answer(ours, task, is_whole=True)),
        "generate_batch": whole,
    }
    ways: dict[str, Callable[[int], int]] = {
        "as it was": lambda seed: as_it_was(ours, task, seed),
        "ours": lambda seed: written(ours, task, seed),
        "generate": lambda seed: generated(ours, task, seed),
        "generate_batch": lambda seed: batched(ours, task, seed),
    }
    file = Path(record(section["model"])["model"])
    if pipeline := opened_by_openvino(file):
        lengths["openvino"], ways["openvino"] = whole, lambda seed: openvino(ours, pipeline, task, seed)
    if server := opened_by_llama_cpp(file, ours.run_settings["threads"]):
        lengths["llama.cpp"], ways["llama.cpp"] = whole, lambda seed: llama_cpp(ours, server, task, seed)
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(N_ROUNDS):
        for way, write in (list(ways.items()), list(reversed(ways.items())))[number % 2]:
            start = time.perf_counter()
            rates[way].append(write(number) / (time.perf_counter() - start))
    print(f"{sys.argv[1]}, {ours.model.dtype}, {ours.run_settings['threads']} threads")
    print("| way | tokens/s | tokens an answer | programs/s | tokens/s of it, ours = 1 |\n|---|---|---|---|---|")
    for way, values in rates.items():
        rate, n_tokens = statistics.median(values), lengths[way]
        shares = sorted(value / mine for value, mine in zip(values, rates["ours"], strict=True))
        spread = f"{statistics.median(shares):.2f} ({shares[0]:.2f}-{shares[-1]:.2f})"
        print(f"| {way} | {rate:.0f} | {n_tokens:.0f} | {rate / n_tokens:.2f} | {spread} |", flush=True)


def tokens_of_an_answer(ours: TransformersBackend, task: Task, is_whole: bool) -> float:
    """Return the mean number of tokens of an answer, to its end or to the end of its program."""
    function, ours.function = ours.function, "" if is_whole else task.function
    decoding = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=LIMIT)
    answers = ours.complete([task.prompt] * N_ROWS, seed=0, decoding=decoding)
    ours.function = function
    return statistics.mean(answer.n_tokens for answer in answers)


def written(ours: TransformersBackend, task: Task, seed: int) -> int:
    """Return the tokens that our back end writes."""
    answers = ours.complete([task.prompt] * N_ROWS, seed=seed, decoding=SHORT)
    return sum(answer.n_tokens for answer in answers)


def as_it_was(ours: TransformersBackend, task: Task, seed: int) -> int:
    """Return the tokens that it writes with one thread in float32, with all of the vocabulary sorted."""
    run, n_likely, dtype = ours.run_settings, nucleus.N_LIKELY, ours.model.dtype
    ours.run_settings, nucleus.N_LIKELY = {**run, "threads": 1}, WHOLE
    ours.model.float()
    n_tokens = written(ours, task, seed)
    ours.model.to(dtype)
    ours.run_settings, nucleus.N_LIKELY = run, n_likely
    return n_tokens


def inputs(ours: TransformersBackend, task: Task) -> list[list[int]]:
    """Return the token ids of the prompts."""
    return [ours._ids(task.prompt, N_TOKENS)] * N_ROWS


def settings() -> dict[str, Any]:
    """Return the arguments of transformers' generation that match SHORT."""
    return {"do_sample": True, "temperature": 1.0, "top_p": 0.95, "top_k": 0, "max_new_tokens": N_TOKENS}


@torch.inference_mode()
def generated(ours: TransformersBackend, task: Task, seed: int) -> int:
    """Return the tokens that transformers' generate writes."""
    torch.set_num_threads(ours.run_settings["threads"])
    torch.manual_seed(seed)
    ids = torch.tensor(inputs(ours, task))
    pad = ours.tokenizer.pad_token_id
    out = ours.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pad_token_id=pad, **settings())
    return int((out[:, ids.shape[1] :] != pad).sum())


def batched(ours: TransformersBackend, task: Task, seed: int) -> int:
    """Return the tokens that transformers' generate_batch writes."""
    from transformers import GenerationConfig

    torch.set_num_threads(ours.run_settings["threads"])
    torch.manual_seed(seed)
    ends = ours.model.generation_config.eos_token_id
    config = GenerationConfig(**settings(), eos_token_id=ends, pad_token_id=ours.tokenizer.pad_token_id)
    found = ours.model.generate_batch(inputs=inputs(ours, task), generation_config=config, progress_bar=False)
    return sum(len(one.generated_tokens) for one in found.values())


def opened_by_openvino(file: Path) -> Any:
    """Return OpenVINO's pipeline for a GGUF file; None, and a line that says why, where there is none."""
    try:
        from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig

        scheduler = SchedulerConfig()
        scheduler.cache_size, scheduler.max_num_seqs, scheduler.enable_prefix_caching = 4, N_ROWS, True
        return ContinuousBatchingPipeline(str(file), scheduler, "CPU")
    except (ImportError, RuntimeError) as error:
        print(f"openvino is left out: {str(error).splitlines()[0]}")
        return None


def openvino(ours: TransformersBackend, pipeline: Any, task: Task, seed: int) -> int:
    """Return the tokens that OpenVINO writes, counted in its texts by our tokenizer."""
    from openvino_genai import GenerationConfig

    config = GenerationConfig()
    config.do_sample, config.temperature, config.top_p, config.rng_seed = True, 1.0, 0.95, seed
    config.max_new_tokens = N_TOKENS
    results = pipeline.generate([prompt(ours, task)] * N_ROWS, [config] * N_ROWS)
    return n_tokens_of(ours, [text for result in results for text in result.m_generation_ids])


def opened_by_llama_cpp(file: Path, threads: int) -> Any:
    """Return llama.cpp's server for a GGUF file; None, and a line that says why, where there is none."""
    try:
        from xllamacpp import CommonParams, Server, get_system_info
    except ImportError as error:
        print(f"llama.cpp is left out: {error}")
        return None
    print(get_system_info())  # the instructions that it was built for; those of its wheel are few
    wanted = CommonParams()
    wanted.model.path, wanted.n_parallel, wanted.kv_unified, wanted.verbosity = str(file), N_ROWS, True, 1
    wanted.n_ctx = MOST_PROMPT + N_ROWS * N_TOKENS
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = threads
    return Server(wanted)


def llama_cpp(ours: TransformersBackend, server: Any, task: Task, seed: int) -> int:
    """Return the tokens that llama.cpp's server writes, counted in its texts by our tokenizer."""
    wanted = {"prompt": prompt(ours, task), "n": N_ROWS, "seed": seed, "n_predict": N_TOKENS}
    answer = server.handle_completions(wanted | {"temperature": 1.0, "top_p": 0.95, "top_k": 0, "min_p": 0.0})
    return n_tokens_of(ours, [choice["text"] for choice in answer["choices"]])


def prompt(ours: TransformersBackend, task: Task) -> str:
    """Return the task's prompt as the model's chat template has it."""
    turns = [{"role": "user", "content": task.prompt}]
    return str(ours.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))


def n_tokens_of(ours: TransformersBackend, texts: list[str]) -> int:
    """Return the tokens of texts."""
    return sum(len(ours.tokenizer(text)["input_ids"]) for text in texts)


if __name__ == "__main__":
    main()
