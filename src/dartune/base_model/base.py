"""The embedded base model: a small Llama trained from scratch on programs that the tasks' grammars draw.

It makes the pipeline real on a laptop: it writes valid programs of very different quality. It is of no other use. Of
a prompt it reads the function's signature, the line "Operation: ..." and the programs to start from, which its chat
template cuts out: it knows no English.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.base_model.rewriting import Rewriting
from dartune.files.atomic import write_json
from dartune.files.batches import folder, last_checkpoint
from dartune.files.fingerprint import fingerprint
from dartune.files.parquet import write
from dartune.models.checkpoint import CORPUS, point_to, quiet, render, text_fingerprint
from dartune.pool.prompts import OPERATIONS
from dartune.tasks.task import Task

EMBEDDED = "embedded"
BOS, EOS, PAD, PARENT, PROGRAM = "<s>", "</s>", "<pad>", "<parent>", "<program>"
SAVE_STEPS = 200
# The last block of code is the task's template, of which the signature counts; those before it are parents.
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

# A word, a digit, a sign, a line's indentation: no piece reaches over these borders, so that signs stay one token.
PIECES = r"\n *| ?[A-Za-z_]+|\d| ?[^\sA-Za-z0-9_]| +"


def make_base(
    output: Path,
    metrics: Path,
    *,
    model: str,
    revision: str | None,
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
    """Write the base model's folder: the embedded model, trained now, or a pointer to `model`.

    tasks: those whose grammars the embedded model learns; running fewer tasks does not train it anew.
    n_programs: drawn per task. n_rewritings: answers to a search's prompts, per task (rewriting.py). vocabulary: at
    most so many pieces. width: of a layer, in heads of 32.
    """
    if model != EMBEDDED:
        point_to(output, model, revision)
        write_json(metrics, {"model": model, "revision": revision})
        return
    lessons = {task: [*plain(task, n_programs, seed), *rewritten(task, n_rewritings, seed)] for task in tasks}
    tokenizer = train_tokenizer([lesson.answer for each in lessons.values() for lesson in each], vocabulary)
    network = new_network(tokenizer, width, n_layers, seed)
    training: dict[str, Any] = {
        "seed": seed,
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    key = fingerprint(
        [Path(__file__)], lessons=lessons, vocabulary=len(tokenizer), width=width, n_layers=n_layers, **training
    )
    loss = train_network(network, tokenizer, lessons, key=key, **training)
    save(network, tokenizer, lessons, output)
    n_parameters = sum(p.numel() for p in network.parameters())
    counts = {task: len(each) for task, each in lessons.items()}
    write_json(metrics, {"model": model, "validation_loss": loss, "n_parameters": n_parameters, "n_programs": counts})


@dataclass(frozen=True)
class Lesson:
    """A prompt, the answer to learn, and the program in it."""

    prompt: str
    answer: str
    program: str


def plain(task: str, n_programs: int, seed: int) -> list[Lesson]:
    """Programs drawn from a task's grammar to its fixed prompt, no text twice, in the order drawn."""
    rng, draw, prompt = Random(f"{task}/{seed}"), Task(task).grammar.draw, Task(task).prompt
    return [Lesson(prompt, text, text) for text in dict.fromkeys(draw(rng) for _ in range(n_programs))]


def rewritten(task: str, n_rewritings: int, seed: int) -> list[Lesson]:
    """Children of programs to the prompts of search methods."""
    rewriting = Rewriting(task, seed)
    return [Lesson(*rewriting.example()) for _ in range(n_rewritings)]


def train_tokenizer(texts: list[str], vocabulary: int) -> Any:
    """A byte-level BPE with the chat template that cuts the signature out of a prompt."""
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
    lessons: dict[str, list[Lesson]],
    *,
    seed: int,
    n_epochs: float,
    batch_size: int,
    learning_rate: float,
    key: str,
) -> float:
    """Train on the lessons of all tasks, prompts and answers; return the held-out loss in nats a token.

    Checkpoints are kept in the journal `key`: a killed training goes on from the last one.
    """
    import torch
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    from dartune.training.progress import Progress

    quiet()
    torch.set_num_threads(1)
    set_seed(seed)
    rows = examples(tokenizer, lessons, seed)
    held_out = len(rows) // 50 + 1
    work = folder("base", key)
    options = SFTConfig(
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
    trainer = SFTTrainer(
        model=network,
        args=options,
        processing_class=tokenizer,
        train_dataset=rows.select(range(held_out, len(rows))),
        eval_dataset=rows.select(range(held_out)),
        callbacks=[Progress("base")],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(work))
    loss = round(trainer.evaluate()["eval_loss"], 4)
    shutil.rmtree(work)
    return float(loss)


def examples(tokenizer: Any, lessons: dict[str, list[Lesson]], seed: int) -> Any:
    """All tasks' (prompt, completion) as rendered text, shuffled."""
    from datasets import Dataset

    def rendered(prompt: str) -> str:
        messages = render(tokenizer, prompt)
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    flat = [lesson for each in lessons.values() for lesson in each]
    rows = [{"prompt": rendered(lesson.prompt), "completion": lesson.answer} for lesson in flat]
    Random(seed).shuffle(rows)
    return Dataset.from_list(rows)


def save(network: Any, tokenizer: Any, lessons: dict[str, list[Lesson]], output: Path) -> None:
    """Weights in bf16 (half the size, measured to write as well), tokenizer, and fingerprints of the corpus."""
    import pyarrow as pa
    import torch

    network.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    seen = sorted({text_fingerprint(lesson.program) for each in lessons.values() for lesson in each})
    write(pa.table({"program": pa.array(seen, pa.uint64())}), output / CORPUS)
