"""Stage `embedded`: the embedded model, a small Llama that is trained here and kept in git.

It is trained from scratch on programs that the tasks' grammars draw. It runs the whole pipeline on a laptop, since it
writes valid programs of very different quality, and has no other use. It knows no English: of a
prompt, its chat template passes on the function's signature, the line "Operation: ..." and the programs to start from.
"""

import shutil
from pathlib import Path
from random import Random
from typing import Annotated, Any, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.base_model.rewriting import PretrainingTask, Rewriting
from dartune.files import batches
from dartune.files.atomic import publish, write_json
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.files.parquet import write
from dartune.models.checkpoint import CORPUS, quiet, render
from dartune.pool.prompts import OPERATIONS
from dartune.programs.features import text_fingerprint

BOS, EOS, PAD, PARENT, PROGRAM = "<s>", "</s>", "<pad>", "<parent>", "<program>"
SAVE_STEPS = 200
# The last block of code in a prompt is the task's template, of which only the signature is passed on; the blocks before
# it are parents.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{%- set found = namespace(operation='', block=none, blocks=[]) -%}
{%- for line in message.content.split('\\n') -%}
{%- if line.startswith('```') and found.block is none -%}{%- set found.block = '' -%}
{%- elif line.startswith('```') -%}
{%- set found.blocks = found.blocks + [found.block] -%}{%- set found.block = none -%}
{%- elif found.block is not none -%}{%- set found.block = found.block + line + '\\n' -%}
{%- elif line.startswith('Operation: ') -%}{%- set found.operation = '<' + line[11:] + '>' -%}
{%- endif -%}
{%- endfor -%}
{{- bos_token + found.operation -}}
{%- for block in found.blocks[:-1] -%}{{- '<parent>' + block -}}{%- endfor -%}
{%- for block in found.blocks[-1:] -%}
{%- for line in block.split('\\n') if line.startswith('def ') -%}{{- line -}}{%- endfor -%}
{%- endfor -%}
{%- else -%}
{{- '<program>' + message.content + eos_token -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<program>' -}}{%- endif -%}"""

# A token is at most one word, digit, sign or indentation: merging signs with words costs validity (measured).
PIECES = r"\n *| ?[A-Za-z_]+|\d| ?[^\sA-Za-z0-9_]| +"


def write_embedded(
    output: Path,
    metrics: Path,
    *,
    tasks: list[str],
    seed: NonNegativeInt,
    n_programs: PositiveInt,
    n_rewritings: NonNegativeInt,
    n_epochs: PositiveFloat,
    batch_size: PositiveInt,
    learning_rate: PositiveFloat,
    vocabulary: Annotated[int, Field(ge=300)],
    width: PositiveInt,
    n_layers: PositiveInt,
) -> None:
    """Train the embedded model and write its folder and its metrics, which stay as they were until it is trained.

    tasks: whose grammars are learnt, whatever tasks the pipeline runs. n_programs: drawn per task. n_rewritings:
    answers to prompts of search methods, per task. vocabulary: tokens, at most. width: of a layer, a multiple of 32.
    """
    examples = {task: [*plain(task, n_programs, seed), *rewritten(task, n_rewritings, seed)] for task in tasks}
    tokenizer = train_tokenizer([example.answer for example in flat(examples)], vocabulary)
    network = new_network(tokenizer, width, n_layers, seed)
    training: dict[str, Any] = {
        "seed": seed,
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    code = code_fingerprint(__name__, within="dartune.base_model")
    shape = {"vocabulary": len(tokenizer), "width": width, "n_layers": n_layers}
    key = fingerprint([], code=code, examples=examples, **shape, **training)
    loss = train_network(network, tokenizer, examples, key=key, **training)
    publish(lambda folder: save(network, tokenizer, examples, folder), output)
    n_parameters = sum(p.numel() for p in network.parameters())
    counts = {task: len(rows) for task, rows in examples.items()}
    write_json(metrics, {"validation_loss": loss, "n_parameters": n_parameters, "n_programs": counts})


class Example(NamedTuple):
    """A prompt, the answer to learn, and the program in the answer."""

    prompt: str
    answer: str
    program: str


Examples = dict[str, list[Example]]  # by task


def flat(examples: Examples) -> list[Example]:
    """Return the examples of all tasks, one task after the other."""
    return [example for rows in examples.values() for example in rows]


def plain(task: str, n_programs: int, seed: int) -> list[Example]:
    """Return programs drawn from a task's grammar as answers to its fixed prompt, no text twice, in the order drawn."""
    this = PretrainingTask(task)
    rng, draw = Random(f"{task}/{seed}"), this.grammar.draw
    return [Example(this.prompt, text, text) for text in dict.fromkeys(draw(rng) for _ in range(n_programs))]


def rewritten(task: str, n_rewritings: int, seed: int) -> list[Example]:
    """Return rewritten programs as answers to the prompts of search methods."""
    rewriting = Rewriting(task, seed)
    return [Example(*rewriting.example()) for _ in range(n_rewritings)]


def train_tokenizer(texts: list[str], vocabulary: int) -> Any:
    """Return a byte-level BPE tokenizer, trained on the texts, with CHAT_TEMPLATE. vocabulary: tokens, at most."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, BOS, EOS, PARENT, PROGRAM, *(f"<{name}>" for name in OPERATIONS)],
            initial_alphabet=sorted(alphabet),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, chat_template=CHAT_TEMPLATE
    )


def new_network(tokenizer: Any, width: int, n_layers: int, seed: int) -> Any:
    """Return an untrained LlamaForCausalLM in float32. width: of a layer, in heads of 32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=8 * width // 3,
            num_hidden_layers=n_layers,
            num_attention_heads=width // 32,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train_network(
    network: Any,
    tokenizer: Any,
    examples: Examples,
    *,
    seed: int,
    n_epochs: float,
    batch_size: int,
    learning_rate: float,
    key: str,
) -> float:
    """Train on prompts and answers of all tasks, in place; return the held-out loss in nats a token.

    key: names the folder of checkpoints, from the last of which a killed training goes on.
    """
    import torch
    from transformers import PrinterCallback, set_seed
    from trl import SFTTrainer

    from dartune.training.progress import Progress

    quiet()
    torch.set_num_threads(1)
    set_seed(seed)
    rows = rendered_rows(tokenizer, examples, seed)
    held_out = len(rows) // 50 + 1
    work = batches.folder("embedded", key)
    trainer = SFTTrainer(
        model=network,
        args=settings(work, seed, n_epochs, batch_size, learning_rate),
        processing_class=tokenizer,
        train_dataset=rows.select(range(held_out, len(rows))),
        eval_dataset=rows.select(range(held_out)),
        callbacks=[Progress("embedded")],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=batches.last_checkpoint(work))
    loss = round(trainer.evaluate()["eval_loss"], 4)
    shutil.rmtree(work)
    return float(loss)


def settings(work: Path, seed: int, n_epochs: float, batch_size: int, learning_rate: float) -> Any:
    """Return TRL's SFTConfig. batch_size: examples a step."""
    import torch
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(work),
        seed=seed,
        num_train_epochs=n_epochs,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=100,
        weight_decay=0.01,
        max_length=1024,
        completion_only_loss=False,  # the parents in a prompt are programs to learn from too
        train_sampling_strategy="group_by_length",
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        logging_steps=50,
        save_steps=SAVE_STEPS,
        save_total_limit=1,
        disable_tqdm=True,
        report_to="none",
    )


def rendered_rows(tokenizer: Any, examples: Examples, seed: int) -> Any:
    """Return a shuffled Dataset of columns prompt, as the chat template renders it, and completion."""
    from datasets import Dataset

    def rendered(prompt: str) -> str:
        messages = render(tokenizer, prompt)
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    rows = [{"prompt": rendered(example.prompt), "completion": example.answer} for example in flat(examples)]
    Random(seed).shuffle(rows)
    return Dataset.from_list(rows)


def save(network: Any, tokenizer: Any, examples: Examples, output: Path) -> None:
    """Write weights in bf16 (half the size, and measured to write programs as well), tokenizer, and corpus hashes."""
    import pyarrow as pa
    import torch

    network.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    seen = sorted({text_fingerprint(example.program) for example in flat(examples)})
    write(pa.table({"program": pa.array(seen, pa.uint64())}), output / CORPUS)
