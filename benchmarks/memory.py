"""What trainings take beside what training/memory.py counts and measures before them: python benchmarks/memory.py.

On the CPU, each training in a process of its own: two steps of four pairs, programs or answers of 512 tokens. Taken is
the most that the process held (getrusage) above what it held with all libraries loaded, before the model was opened.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TASK, ROOT = "tsp_construct", Path(__file__).parents[1]
LENGTH, N_ROWS, MIB = 512, 4, 2**20
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
# width, inner width, layers, heads, of them with keys of their own, words; None: the embedded model
SMALL, MIDDLE, WORDY = (256, 704, 6, 4, 4, 474), (512, 1376, 16, 8, 8, 32000), (512, 2048, 6, 8, 2, 128000)
CASES: dict[str, tuple[tuple[int, ...] | None, str, bool]] = {
    "embedded, dpo": (None, "dpo", False),
    "embedded, dpo, LoRA": (None, "dpo", True),
    "6 M, dpo": (SMALL, "dpo", False),
    "6 M, dpo, LoRA": (SMALL, "dpo", True),
    "67 M, dpo": (MIDDLE, "dpo", False),
    "67 M, dpo, LoRA": (MIDDLE, "dpo", True),
    "67 M, sft": (MIDDLE, "sft", False),
    "67 M, grpo": (MIDDLE, "grpo", False),
    "67 M, rloo": (MIDDLE, "rloo", False),
    "88 M, dpo": (WORDY, "dpo", False),
    "88 M, dpo, LoRA": (WORDY, "dpo", True),
}


def write_model(folder: Path, sizes: tuple[int, ...]) -> Path:
    """A Llama of random weights with the embedded model's tokenizer, in the base folder's form."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from dartune.models.checkpoint import open_tokenizer

    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    tokenizer = open_tokenizer(ROOT / "models/embedded")
    shape = dict(zip((*names, "vocab_size"), sizes, strict=True))
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(**shape, **ends, max_position_embeddings=2 * LENGTH, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows(base: Path, n: int) -> list[dict[str, Any]]:
    """Pairs of which the longer side has LENGTH tokens; TRL cuts what is more."""
    from dartune.models.checkpoint import open_tokenizer, prompt_ids, render, render_completion
    from dartune.tasks.task import Task

    tokenizer, task = open_tokenizer(base), Task(TASK)
    n_prompt = len(prompt_ids(tokenizer, task.prompt))
    # They part at once: of what texts have in common little is kept (packing.py).
    sides = {
        "chosen": render_completion(tokenizer, task.template * 20),
        "rejected": render_completion(tokenizer, "\n" + task.template),
    }
    common = {"prompt": render(tokenizer, task.prompt), "prompt_tokens": n_prompt, "is_held_out": False, **sides}
    return [common | {"pair": str(i), "chosen_tokens": LENGTH - n_prompt, "rejected_tokens": 99} for i in range(n)]


def options(method: str) -> dict[str, Any]:
    """Those of the embedded preset, for a few steps."""
    from dartune.training import trainers

    preset = trainers.options(method, ROOT / "params.yaml")
    few = {"num_train_epochs": 1, "per_device_train_batch_size": N_ROWS, "n_completions": 2 * N_ROWS}
    return preset | {name: value for name, value in (few | {"num_generations": N_ROWS}).items() if name in preset}


def child(name: str, folder: Path) -> None:
    """Print what the case takes and what was expected, in bytes."""
    import trl.trainer.dpo_trainer
    import trl.trainer.grpo_trainer
    import trl.trainer.rloo_trainer
    import trl.trainer.sft_trainer  # noqa: F401

    from dartune.models.transformers_backend import TransformersBackend  # noqa: F401
    from dartune.training import memory
    from dartune.training.patches import plain_adapter_inputs
    from dartune.training.train import new_trainer
    from dartune.training.trainers import TrainingInputs

    sizes, method, with_lora = CASES[name]
    base = folder / "model" if sizes else ROOT / "models/embedded"
    settings = {"seed": 0, "lr_scheduler_type": "constant", "warmup_steps": 0, "max_grad_norm": 1.0, "patience": None}
    settings |= {"lora": LORA if with_lora else None, "load_in": None, "launch": None, "max_length": LENGTH}
    settings |= {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": LENGTH - rows(base, 1)[0]["prompt_tokens"]}
    settings |= {"method": method, method: options(method)}
    referee: Any = Shown(N_ROWS)
    inputs = TrainingInputs(TASK, rows(base, 2 * N_ROWS), base, None, folder / "work", settings, referee)
    before = resident()
    trainer = new_trainer(inputs, folder / "plots")
    with plain_adapter_inputs(trainer.model):
        step = memory.step_bytes(trainer, memory.longest_batch(trainer, inputs), float(2**40))
        trainer.train()
    trained = sum(weight.nbytes for weight in trainer.model.parameters() if weight.requires_grad)
    parts = {"weights": memory.weight_bytes(inputs, on_gpu=False), "step": step or 0.0, "optimiser": 2.0 * trained}
    parts["libraries"] = float(memory.LIBRARIES)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"taken": peak - before, "before": before, "expected": sum(parts.values()), "parts": parts}))


class Shown:
    """A referee that judges nothing."""

    def __init__(self, n: int) -> None:
        from dartune.tasks.task import Task

        self.task = Task(TASK)

    def judge(self, programs: list[str]) -> list[Any]:
        from dartune.programs.verdict import Verdict

        return [Verdict("syntax", "") for _ in programs]


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measured(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        sizes = CASES[name][0]
        if sizes:
            write_model(Path(folder, "model"), sizes)
        command = [sys.executable, __file__, "--child", name, folder]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--json", action="store_true", help="one object a case, in bytes, instead of the table")
    parser.add_argument("--child", nargs=2)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child[0], Path(arguments.child[1]))
    if arguments.json:
        return print(*(json.dumps(measured(name)) for name in arguments.cases), sep="\n")
    print("| training | expected, MiB | taken, MiB | expected / taken | parts |\n|---|---|---|---|---|")
    for name in arguments.cases:
        result = measured(name)
        parts = ", ".join(f"{part} {value / MIB:.0f}" for part, value in result["parts"].items() if value)
        expected, taken = result["expected"] / MIB, result["taken"] / MIB
        print(f"| {name} | {expected:.0f} | {taken:.0f} | {expected / taken:.2f} | {parts} |", flush=True)


if __name__ == "__main__":
    main()
