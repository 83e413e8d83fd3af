"""Continuous batching writes what a row alone would get: checked against transformers' generate on tiny models."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from dartune.base_model.embedded import new_network, plain, train_tokenizer
from dartune.errors import UserError
from dartune.models import progress, transformers_backend
from dartune.models.backend import Completion, Decoding
from dartune.models.host import PLAIN, write_run
from dartune.models.transformers_backend import TransformersBackend, generate
from dartune.pool.pool import open_backend
from dartune.referee.referee import Referee
from replayed_search import TASK, explored

COLD, WARM = (Decoding(temperature=t, top_p=1.0, max_new_tokens=24) for t in (1e-6, 1.0))
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
EOS = 2


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """As TransformersBackend does: several are slower for models this small."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = train_tokenizer([lesson.answer for lesson in plain("tsp_construct", 50, 0)], 300)
    made.chat_template = None
    return made


def saved(folder: Path, tokenizer: Any, kind: str = "Llama", **changed: Any) -> Path:
    """A model with random weights, large enough that its tokens are told apart clearly."""
    import transformers

    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": EOS, "pad_token_id": 0}
    sizes = SIZES | {"vocab_size": len(tokenizer), "initializer_range": 0.3} | ids | changed
    config = getattr(transformers, f"{kind}Config")(**sizes)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("llama"), tokenizer, num_key_value_heads=2, intermediate_size=64)


@pytest.fixture
def backend(folder: Path) -> TransformersBackend:
    return TransformersBackend(folder)


def prompts(backend: TransformersBackend, n: int) -> list[list[int]]:
    """Ids of n prompts of 2 to 30 tokens; some are equal."""
    rng, vocabulary = Random(n), backend.model.config.vocab_size
    made = [[rng.randrange(3, vocabulary) for _ in range(rng.randint(2, 30))] for _ in range(n)]
    return [made[i if rng.random() < 0.7 else rng.randrange(i + 1)] for i in range(n)]


def chances(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((n, 24), generator=torch.Generator().manual_seed(seed))


def ending_at(model: Any, ends: int | list[int]) -> None:
    model.generation_config.eos_token_id = ends


def greedy(model: Any, ids: list[list[int]]) -> list[list[int]]:
    """What transformers' generate appends to each, by itself."""
    return [
        model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones((1, len(prompt)), dtype=torch.long),
            do_sample=False,
            max_new_tokens=24,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        for prompt in ids
    ]


@pytest.fixture(
    params=[(2, 1), (3, 1), (3, 16), (64, 1), (256, 16)], ids=lambda slots: "{} slots, {} free".format(*slots)
)
def slots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_backend, "N_SLOTS", request.param[0])
    monkeypatch.setattr(transformers_backend, "MIN_FREE", request.param[1])


@pytest.mark.usefixtures("slots")
def test_the_coldest_completions_equal_generate_for_prompts_of_all_lengths(backend: TransformersBackend) -> None:
    # a third of all tokens end a turn, so that rows end at different times and their slots are filled again
    ending_at(backend.model, list(range(2, len(backend.tokenizer), 3)))
    ids = prompts(backend, 20)
    found = generate(backend.model, ids, chances(20), COLD)
    assert found == greedy(backend.model, ids)
    assert len({len(each) for each in found}) > 3


@pytest.mark.usefixtures("slots")
def test_completions_that_are_cut_equal_generate_too(backend: TransformersBackend) -> None:
    ending_at(backend.model, EOS)
    ids = prompts(backend, 8)
    assert generate(backend.model, ids, chances(8), COLD) == greedy(backend.model, ids)


@pytest.mark.usefixtures("slots")
def test_tokens_do_not_depend_on_how_many_rows_are_written_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # in float64, so that the order of additions decides no token
    model = TransformersBackend(folder).model.double()
    ending_at(model, list(range(2, 102)))
    ids = prompts(TransformersBackend(folder), 30)
    found = generate(model, ids, chances(30), WARM)
    monkeypatch.setattr(transformers_backend, "N_SLOTS", 1)
    monkeypatch.setattr(transformers_backend, "MIN_FREE", 1)
    assert found == generate(model, ids, chances(30), WARM)
    assert len({len(each) for each in found}) > 5


def test_a_row_does_not_depend_on_the_other_rows_of_its_batch(folder: Path) -> None:
    model = TransformersBackend(folder).model.double()
    ids, chance = prompts(TransformersBackend(folder), 12), chances(12)
    alone = [generate(model, [each], chance[i : i + 1], WARM)[0] for i, each in enumerate(ids)]
    assert generate(model, ids, chance, WARM) == alone


@pytest.mark.usefixtures("slots")
def test_results_come_in_the_order_of_the_prompts(backend: TransformersBackend) -> None:
    texts = ["np.argsort(s)", "def", "for node in unvisited_nodes:\n    a = 1", "x = 2", "def", "return s"]
    one_by_one = [backend.complete([text], seed=0, decoding=COLD)[0] for text in texts]
    assert backend.complete(texts, seed=0, decoding=COLD) == one_by_one
    assert [each.n_prompt_tokens for each in one_by_one] == [
        len(backend.tokenizer(text)["input_ids"]) for text in texts
    ]
    assert len({each.text for each in one_by_one}) == 5


def test_the_same_seed_gives_the_same_completions_and_another_one_others(backend: TransformersBackend) -> None:
    one, same, other = (backend.complete(["def f"] * 6, seed=seed, decoding=WARM) for seed in (0, 0, 1))
    assert one == same != other
    assert len({each.text for each in one}) == 6  # equal prompts have chances of their own


def test_what_does_not_end_is_cut_at_max_new_tokens(backend: TransformersBackend) -> None:
    ending_at(backend.model, len(backend.tokenizer) + 1)  # never written
    for n in (1, 2, 7):
        (found,) = backend.complete(["def f"], seed=0, decoding=Decoding(1.0, 1.0, n))
        assert (found.n_tokens, found.finish) == (n, "length")


def test_an_end_of_turn_right_away_is_an_empty_completion_of_one_token(backend: TransformersBackend) -> None:
    ending_at(backend.model, list(range(len(backend.tokenizer))))
    n = len(backend.tokenizer("def f")["input_ids"])
    assert backend.complete(["def f"] * 3, seed=0, decoding=WARM) == [Completion("", n, 1, "stop")] * 3


def test_an_end_of_turn_as_the_last_token_allowed_is_an_end_and_no_cut(backend: TransformersBackend) -> None:
    ending_at(backend.model, list(range(len(backend.tokenizer))))
    (found,) = backend.complete(["def f"], seed=0, decoding=Decoding(1.0, 1.0, 1))
    assert (found.n_tokens, found.finish) == (1, "stop")


def test_each_of_several_tokens_can_end_a_turn_and_is_no_part_of_the_text(backend: TransformersBackend) -> None:
    ends = list(range(5, 205))
    ending_at(backend.model, ends)
    ids, chance = [backend.tokenizer("def f")["input_ids"]] * 40, chances(40)
    found = generate(backend.model, ids, chance, WARM)
    assert all(not set(each[:-1]) & set(ends) for each in found)
    assert len({each[-1] for each in found if each[-1] in ends}) > 10
    for row in found:
        completion = backend._completion(3, row)
        kept = row[:-1] if row[-1] in ends else row
        assert completion.text == backend.tokenizer.decode(kept, skip_special_tokens=True)
        assert completion == Completion(completion.text, 3, len(row), "length" if kept == row else "stop")


def test_a_single_token_that_ends_a_turn_may_be_given_without_a_list(backend: TransformersBackend) -> None:
    ids = prompts(backend, 10)
    found = []
    for ends in (7, [7]):
        ending_at(backend.model, ends)
        found.append(generate(backend.model, ids, chances(10), WARM))
    assert found[0] == found[1]


class Passes:
    """Shapes of what a model reads, pass by pass: prompts are longer than one token, steps are not."""

    def __init__(self, model: Any) -> None:
        self._shapes: list[tuple[int, int]] = []
        model.register_forward_pre_hook(lambda _, inputs: self._shapes.append(tuple(inputs[0].shape)))

    @property
    def prompts(self) -> list[int]:
        """Prompts read, of each pass that read some."""
        return [n for n, length in self._shapes if length > 1]

    @property
    def steps(self) -> list[int]:
        """Rows written, of each pass that wrote."""
        return [n for n, length in self._shapes if length == 1]


def test_equal_prompts_are_read_once(backend: TransformersBackend) -> None:
    passes = Passes(backend.model)
    ending_at(backend.model, len(backend.tokenizer) + 1)
    backend.complete(["def f", "def g(n)"] * 20, seed=0, decoding=WARM)
    assert passes.prompts == [2]
    assert passes.steps == [40] * 23  # the first of 24 tokens comes from reading


@pytest.mark.parametrize("n_slots", [2, 3, 7])
def test_equal_prompts_are_read_once_where_they_do_not_fit_at_once(
    backend: TransformersBackend, n_slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_backend, "N_SLOTS", n_slots)
    monkeypatch.setattr(transformers_backend, "MIN_FREE", 1)
    ending_at(backend.model, list(range(2, 102)))
    passes = Passes(backend.model)
    backend.complete(["def f", "def g(n)", "return s"] * 10, seed=0, decoding=WARM)
    assert sum(passes.prompts) == 3
    assert max(passes.steps) <= n_slots


def test_a_slot_is_filled_again_while_others_are_still_written(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_backend, "N_SLOTS", 4)
    monkeypatch.setattr(transformers_backend, "MIN_FREE", 1)
    ending_at(backend.model, list(range(2, 102)))
    passes = Passes(backend.model)
    found = generate(backend.model, prompts(backend, 40), chances(40), WARM)
    assert len(passes.prompts) > 5
    # rows do not wait for the longest: batches of four that do would take the sum of ten longest rows
    n_tokens = sum(map(len, found))
    assert len(passes.steps) < sum(max(map(len, found[i : i + 4])) for i in range(0, 40, 4))
    assert sum(passes.steps) == n_tokens - 40  # no pass writes a token that nobody gets


def test_a_batch_that_takes_long_says_how_far_it_is(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ending_at(backend.model, [])
    backend.complete(["def f"] * 3, seed=0, decoding=Decoding(1.0, 1.0, 5))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "EVERY", 0)
    backend.complete(["def f"] * 3, seed=0, decoding=Decoding(1.0, 1.0, 5))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" answers")[0] for line in lines] == ["model: 0 of 3"] * 4 + ["model: 3 of 3"]


# ---- other models


@pytest.mark.parametrize("kind", ["Qwen2", "Mistral", "Phi3", "GPTNeoX", "GPTJ"])
def test_other_kinds_of_models_write_what_generate_writes(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    # GPT-J has no attention of PyTorch's own (sdpa): what it does to a mask is another thing
    sizes = {"rotary_dim": 4} if kind == "GPTJ" else {"intermediate_size": 64, "num_key_value_heads": 4}
    backend = TransformersBackend(saved(tmp_path, tokenizer, kind, **sizes))
    ids = prompts(backend, 8)
    assert generate(backend.model, ids, chances(8), COLD) == greedy(backend.model, ids)


def test_a_model_with_a_sliding_window_may_read_no_more_than_the_window(tokenizer: Any, tmp_path: Path) -> None:
    folder = saved(tmp_path, tokenizer, "Mistral", intermediate_size=64, num_key_value_heads=4, sliding_window=8)
    with pytest.raises(UserError, match="the model's context is 8 tokens"):
        TransformersBackend(folder).complete(["def f(n):\n    return n + 1\n"], seed=0, decoding=COLD)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a chat template, whose context is 64 tokens."""
    folder = tmp_path_factory.mktemp("short")
    tokenizer = train_tokenizer([lesson.answer for lesson in plain(TASK.name, 50, 0)], 400)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    network = new_network(tokenizer, 32, 1, 0)
    network.config.max_position_embeddings = 64
    network.save_pretrained(folder)
    return folder


def test_a_context_that_is_too_short_is_named_with_its_numbers(
    short: Path, referee: Referee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    local: Any = open_backend(short, TASK)
    n = len(local.tokenizer(TASK.prompt)["input_ids"])
    words = f"context is 64 tokens: a prompt of {n} and max_new_tokens: 256 do not fit"
    with pytest.raises(UserError, match=words) as refused:
        explored("independent", local, None)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"context is 64 tokens: a prompt of \d+ and max_new_tokens: 256 do not fit"):
        explored("funsearch", local, referee)


def test_a_context_that_just_holds_prompt_and_answer_is_enough(short: Path) -> None:
    local: Any = open_backend(short, TASK)
    prompt, n = "def f", len(local.tokenizer("def f")["input_ids"])
    fitting = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=64 - n)
    assert len(local.complete([prompt], seed=0, decoding=fitting)) == 1
    with pytest.raises(UserError, match=f"a prompt of {n} and max_new_tokens: {65 - n} do not fit"):
        local.complete([prompt], seed=0, decoding=Decoding(temperature=1.0, top_p=1.0, max_new_tokens=65 - n))


def test_a_model_without_a_chat_template_gets_the_prompt_as_plain_text(short: Path) -> None:
    local: Any = open_backend(short, TASK)
    (completion,) = local.complete(["def f(n):"], seed=0, decoding=Decoding(1.0, 1.0, 4))
    assert completion.n_prompt_tokens == len(local.tokenizer("def f(n):")["input_ids"])
    assert local._ids("def f(n):", 4) == local.tokenizer("def f(n):")["input_ids"]


# ---- ending with the program


def writing(model: Any, tokens: list[int]) -> None:
    """Make a model write these tokens, whatever it reads; all prompts must be read in one pass."""
    n_passes = iter(range(10**6))

    def force(_: Any, __: Any, output: Any) -> Any:
        output.logits.fill_(-1e9)[..., tokens[next(n_passes) % len(tokens)]] = 0
        return output

    model.register_forward_hook(force)


FENCED = "```python\ndef f(n):\n    return n\n```"
EXPLAINED = f"{FENCED}\nIt returns n."


@pytest.mark.parametrize(("stops", "text", "finish"), [(True, FENCED, "program"), (False, EXPLAINED, "length")])
def test_an_answer_ends_with_its_program_where_the_base_folder_says_so(
    tokenizer: Any, tmp_path: Path, stops: bool, text: str, finish: str
) -> None:
    base = saved(tmp_path, tokenizer, num_key_value_heads=2, intermediate_size=64)
    write_run(base, **PLAIN | {"stop_after_program": stops})
    backend, tokens = TransformersBackend(base, function="f"), tokenizer(EXPLAINED)["input_ids"]
    writing(backend.model, tokens)
    decoding = Decoding(1.0, 1.0, len(tokens))
    (one, other) = backend.complete(["def f"] * 2, seed=0, decoding=decoding)
    assert (one.text, one.finish) == (other.text, other.finish) == (text, finish)
    assert one.n_tokens == len(tokenizer(text)["input_ids"])
