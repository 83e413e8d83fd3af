"""Runs a model with transformers, by continuous batching: a finished row makes room for the next prompt.

transformers' own generate() reads a prompt once for every row, and keeps computing finished rows until the longest is
done. An answer can also end with its program: small models go on to explain it, which takes half of their tokens. This
module imports torch at the top: import it only where a model is about to run.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.utils import logging

from dartune.errors import UserError
from dartune.files.fingerprint import fingerprint
from dartune.models.backend import Completion, Decoding
from dartune.models.checkpoint import open_model, open_tokenizer, prompt_ids, revision
from dartune.models.host import PLAIN, kept_memory, n_rows, row_bytes, run_settings
from dartune.models.nucleus import draw_tokens
from dartune.models.prefix import Prefix, shared, shared_tokens
from dartune.models.program_end import has_program
from dartune.models.progress import Progress

N_SLOTS = 256  # rows generated at once, at most
N_READ = 16  # prompts read at once
MIN_FREE = 16  # free slots that are worth a forward pass over new prompts while other rows are being generated
AreWhole = Callable[[list[list[int]], torch.Tensor], torch.Tensor]  # see TransformersBackend._are_whole
STATED = 2**28  # bytes of keys and values from which on they are worth a line
FULL, MAX_LENGTH = "full_attention", "max_position_embeddings"


class TransformersBackend:
    """A back end for the base model in a folder, or for a tuned model. Raises UserError where it cannot be opened.

    function: the task's, which an answer's program defines; "" where answers shall not end with it.
    """

    prices = (0.0, 0.0)

    def __init__(self, base: Path, tuned: Path | None = None, function: str = "") -> None:
        logging.disable_progress_bar()  # in a log, every update of a bar is a line
        name = revision(base) if tuned is None else fingerprint([tuned], base=revision(base))
        self._set(name, open_model(base, tuned).eval(), open_tokenizer(base), run_settings(base), function)

    @classmethod
    def from_loaded(
        cls, model: Any, tokenizer: Any, run: dict[str, Any] = PLAIN, function: str = ""
    ) -> "TransformersBackend":
        """Return a back end without a revision for a model in memory, such as one in training."""
        backend = cls.__new__(cls)
        backend._set("", model, tokenizer, run, function)
        return backend

    def _set(self, name: str, model: Any, tokenizer: Any, run: dict[str, Any], function: str) -> None:
        self.revision, self.model, self.tokenizer, self.run_settings = name, model, tokenizer, run
        self.function = function if run["stop_after_program"] else ""
        self._has_stated = False
        marks = [id for token, id in tokenizer.get_vocab().items() if "`" in token]
        self._marks = torch.tensor(sorted(marks), dtype=torch.long, device=model.device)
        refuse_windows(model, name or "train")

    def complete(self, prompts: list[str], *, seed: int, decoding: Decoding) -> list[Completion]:
        """Return one completion per prompt, in order. What a row draws does not depend on the other rows of the batch.

        Raises UserError where a prompt and its completion do not fit into the model's context.
        """
        torch.set_num_threads(self.run_settings["threads"])  # another number adds in another order
        ids_of = {prompt: self._ids(prompt, decoding.max_new_tokens) for prompt in dict.fromkeys(prompts)}
        ids = [ids_of[prompt] for prompt in prompts]
        uniforms = torch.rand((len(ids), decoding.max_new_tokens), generator=torch.Generator().manual_seed(seed))
        length = max(map(len, ids)) + decoding.max_new_tokens
        self._state(n_rows(self.model, length, min(len(ids), N_SLOTS)), length)
        are_whole = self._are_whole if self.function else None
        written = generate(self.model, ids, uniforms.to(self.model.device), decoding, are_whole)
        return [self._completion(len(prompt), tokens) for prompt, tokens in zip(ids, written, strict=True)]

    def _state(self, n_slots: int, length: int) -> None:
        """Print once how many rows are written side by side, if their memory is worth a line."""
        n_bytes = n_slots * row_bytes(self.model, length)
        if n_bytes > STATED and not self._has_stated:
            self._has_stated = True
            kind, threads = str(self.model.dtype).removeprefix("torch."), self.run_settings["threads"]
            print(
                f"model: {n_slots} answers side by side, up to {n_bytes / 2**30:.1f} GiB beside its weights; {kind},"
                f" {threads} threads",
                file=sys.stderr,
                flush=True,
            )

    def _are_whole(self, rows: list[list[int]], tokens: torch.Tensor) -> torch.Tensor:
        """Return whether each answer has its program, (rows,). rows: all tokens of each. tokens: (rows,), the last."""
        result = torch.zeros(len(rows), dtype=torch.bool, device=tokens.device)
        for row in torch.isin(tokens, self._marks).nonzero().flatten().tolist():  # a block ends with backticks
            result[row] = has_program(self._text(rows[row]), self.function)
        return result

    def _text(self, ids: list[int]) -> str:
        """Return the text of tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        """Do nothing: a model run here has no budget."""

    def _ids(self, prompt: str, max_new_tokens: int) -> list[int]:
        """Return the token ids of a prompt. Raises UserError where a completion does not fit into the context."""
        config, ids = self.model.config, prompt_ids(self.tokenizer, prompt)
        limit = min(config.max_position_embeddings, getattr(config, "sliding_window", None) or 2**31)
        if len(ids) + max_new_tokens > limit:
            raise UserError(
                f"the model's context is {limit} tokens: a prompt of {len(ids)} and max_new_tokens: {max_new_tokens} do"
                " not fit; lower max_new_tokens, show fewer programs in a prompt, or take another model"
            )
        return ids

    def _completion(self, n_prompt_tokens: int, ids: list[int]) -> Completion:
        """Return the text up to the end of the turn. n_tokens includes the token that ends it."""
        is_whole = ids[-1] in ends_of_turn(self.model)
        text = self._text(ids[:-1] if is_whole else ids)
        cut = "program" if self.function and has_program(text, self.function) else "length"
        return Completion(text, n_prompt_tokens, len(ids), "stop" if is_whole else cut)


def refuse_windows(model: Any, where: str) -> None:
    """Raise a UserError if a model has sliding windows or other layers whose cache is not one entry per token.

    where: what the error names as the source of the model.
    """
    config = model.config
    if set(getattr(config, "layer_types", None) or [FULL]) != {FULL} or not hasattr(config, MAX_LENGTH):
        raise UserError(f"{where}: a {config.model_type} does not simply attend to all it read; use a server for it")


def ends_of_turn(model: Any) -> list[int]:
    """Return the token ids that end a turn; chat models have several."""
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


@torch.inference_mode()
def generate(
    model: Any,
    ids: list[list[int]],
    uniforms: torch.Tensor,
    decoding: Decoding,
    are_whole: AreWhole | None = None,
) -> list[list[int]]:
    """Return the tokens generated for each prompt, including the one that ends the turn.

    ids: token ids by prompt. uniforms: (prompts, max_new_tokens), one number in [0, 1) for each token to draw.
    are_whole: whether answers end here though the model has not ended its turn.
    """
    written: list[list[int]] = [[] for _ in ids]
    waiting = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), ids[i], i))  # longest first, equal prompts together
    length, n_shared = max(map(len, ids)) + decoding.max_new_tokens, shared_tokens(model, ids)
    slots = Slots(model, n_rows(model, length, min(len(ids), N_SLOTS)), length, n_shared)
    with shared(model, n_shared), kept_memory():
        write(slots, ids, waiting, written, uniforms, decoding, are_whole)
    return written


def write(
    slots: "Slots",
    ids: list[list[int]],
    waiting: list[int],
    written: list[list[int]],
    uniforms: torch.Tensor,
    decoding: Decoding,
    are_whole: AreWhole | None,
) -> None:
    """Append the tokens of all answers to `written`. waiting: the prompts' numbers in the order of their turn."""
    ends = torch.tensor(ends_of_turn(slots.model), dtype=torch.long, device=slots.model.device)
    logits, progress = slots.admit(ids, waiting), Progress()
    while slots.rows:
        places = torch.tensor([len(written[row]) for row in slots.rows], device=ends.device)
        tokens = draw_tokens(logits, uniforms[slots.rows, places], decoding)
        for row, token in zip(slots.rows, tokens.tolist(), strict=True):
            written[row].append(token)
        is_going = ~torch.isin(tokens, ends) & (places + 1 < decoding.max_new_tokens)
        if are_whole:
            is_going &= ~are_whole([written[row] for row in slots.rows], tokens)
        logits = slots.step(slots.keep(is_going, tokens), logits)
        if waiting and slots.n_free >= min(MIN_FREE, slots.n, len(waiting)):
            logits = torch.cat([logits, slots.admit(ids, waiting)])
        progress.show(written, len(waiting) + len(slots.rows))


class Slots:
    """Keys and values of the rows being generated, which differ in length. The slots in use come first.

    n_shared: tokens of the prefix that all prompts have in common and that is kept once; see prefix.py.
    """

    def __init__(self, model: Any, n_slots: int, length: int, n_shared: int = 0) -> None:
        self.model, self.n, self.n_shared = model, n_slots, n_shared
        self._prefix: Prefix | None = None
        self.rows: list[int] = []  # by slot, the number of its prompt
        self._lengths = torch.zeros(n_slots, dtype=torch.long, device=model.device)
        self._columns = torch.arange(length - n_shared, device=model.device)
        self._layers = [SlotLayer(self._lengths, length - n_shared) for _ in range(model.config.num_hidden_layers)]
        self._read: dict[tuple[int, ...], tuple[Any, torch.Tensor]] = {}  # prompt -> keys and values, logits

    @property
    def n_free(self) -> int:
        """The number of slots without a row."""
        return self.n - len(self.rows)

    def admit(self, ids: list[list[int]], waiting: list[int]) -> torch.Tensor:
        """Move prompts from the front of `waiting` into free slots; return the logits (n, vocabulary) after them."""
        taken, waiting[:] = waiting[: self.n_free], waiting[self.n_free :]
        self._read_prompts(list(dict.fromkeys(tuple(ids[row]) for row in taken)))
        read = [self._read[tuple(ids[row])] for row in taken]
        if self.n_shared and self._prefix is None:
            parts = [[part[:, : self.n_shared].contiguous() for part in layer] for layer in read[0][0]]
            self._prefix = Prefix(*map(list, zip(*parts, strict=True)))
        for (states, _), row in zip(read, taken, strict=True):
            self._lengths[len(self.rows)] = len(ids[row]) - self.n_shared
            for layer, (keys, values) in zip(self._layers, states, strict=True):
                layer.put(len(self.rows), keys[:, self.n_shared :], values[:, self.n_shared :], self.n)
            self.rows.append(row)
        return torch.stack([logits for _, logits in read])

    def _read_prompts(self, prompts: list[tuple[int, ...]]) -> None:
        """Read new prompts, N_READ at a time: sorted by length, they need little padding. Forget all others."""
        new = [prompt for prompt in prompts if prompt not in self._read]
        for first in range(0, len(new), N_READ):
            self._read |= self._forward(new[first : first + N_READ])
        self._read = {prompt: self._read[prompt] for prompt in prompts}

    def _forward(self, prompts: list[tuple[int, ...]]) -> dict[tuple[int, ...], tuple[Any, torch.Tensor]]:
        """Return keys, values and last logits by prompt. Padding is on the right, where causal attention ignores it."""
        longest = max(map(len, prompts))
        padded = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
        places = sorted({len(prompt) - 1 for prompt in prompts})
        cache = DynamicCache(config=self.model.config)
        logits = self.model(
            padded.to(self.model.device),
            past_key_values=cache,
            logits_to_keep=torch.tensor(places, device=self.model.device),
            use_cache=True,
        ).logits
        return {
            prompt: (
                [(layer.keys[i, :, : len(prompt)], layer.values[i, :, : len(prompt)]) for layer in cache.layers],
                logits[i, places.index(len(prompt) - 1)],
            )
            for i, prompt in enumerate(prompts)
        }

    def keep(self, is_going: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Move the last rows into the slots of finished ones; return the tokens (n,) of the rows that remain.

        is_going: (rows,), whether a row goes on. tokens: (rows,), the last ones generated.
        """
        n_left = int(is_going.sum())
        if n_left == len(self.rows):
            return tokens
        holes = (~is_going[:n_left]).nonzero().squeeze(1)
        movers = is_going[n_left:].nonzero().squeeze(1) + n_left
        for layer in self._layers:
            layer.move(movers, holes)
        self._lengths[holes], tokens[holes] = self._lengths[movers], tokens[movers]
        for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
            self.rows[hole] = self.rows[mover]
        del self.rows[n_left:]
        return tokens[:n_left]

    def step(self, tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Append one token per row, tokens (n,); return the next logits (n, vocabulary). logits: the previous ones."""
        n = len(tokens)
        if n == 0:
            return logits[:0]
        lengths = self._lengths[:n]
        unseen = self._columns[: int(lengths.max()) + 1] > lengths[:, None]
        mask = torch.zeros(unseen.shape, dtype=self.model.dtype, device=unseen.device)  # added to the attention scores
        mask.masked_fill_(unseen, torch.finfo(mask.dtype).min)
        result: torch.Tensor = self.model(
            tokens[:, None],
            position_ids=lengths[:, None] + self.n_shared,
            attention_mask=mask[:, None, None],
            past_key_values=Cache(layers=self._layers),
            use_cache=True,
            **({"prefix": self._prefix} if self._prefix else {}),
        ).logits[:, -1]
        lengths += 1
        return result


class SlotLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, (slots, heads, length, width). A step sees only the rows in use."""

    def __init__(self, lengths: torch.Tensor, length: int) -> None:
        super().__init__()
        self.is_initialized = False
        self._lengths, self._length = lengths, length

    def put(self, slot: int, keys: torch.Tensor, values: torch.Tensor, n_slots: int) -> None:
        """Store the keys and values (heads, tokens, width) of a prompt in a slot."""
        if not self.is_initialized:
            n_heads, _, width = keys.shape
            self.keys, self.values = (keys.new_zeros(n_slots, n_heads, self._length, width) for _ in range(2))
            self.is_initialized = True
        for states, new in ((self.keys, keys), (self.values, values)):
            states[slot, :, : new.shape[1]] = new

    def move(self, movers: torch.Tensor, holes: torch.Tensor) -> None:
        """Copy slots onto others: movers and holes are slot numbers, of equal length."""
        for states in (self.keys, self.values):
            states[holes] = states[movers]

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the keys and values of one token, (n, heads, 1, width); return all those of the rows in use."""
        n, lengths = len(keys), self._lengths[: len(keys)]
        rows, end = torch.arange(n, device=keys.device), int(lengths.max()) + 1
        for states, new in ((self.keys, keys), (self.values, values)):
            states[rows, :, lengths] = new[:, :, 0]
        return self.keys[:n, :, :end], self.values[:n, :, :end]

    def get_seq_length(self) -> int:
        """Return the number of tokens of the longest row. Part of transformers' interface."""
        return int(self._lengths.max())
