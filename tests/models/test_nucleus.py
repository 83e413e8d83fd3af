"""Tokens are drawn from the nucleus, each as often as its probability says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dartune.models.backend import Decoding
from dartune.models.nucleus import N_LIKELY, draw_tokens, select

# chi-square at p = 0.001, by degrees of freedom; the draws are seeded, so nothing here fails by chance
CRITICAL = {2: 13.82, 4: 18.47}


def test_tokens_are_drawn_as_often_as_their_softmax_says() -> None:
    # at temperature 2, odds exp(logit / 2)
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])
    chance = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    drawn = draw_tokens(logits.repeat(20_000, 1), chance, Decoding(2.0, 1.0, 1))
    expected = 20_000 * (logits.double() / 2).exp() / (logits.double() / 2).exp().sum()
    counts = torch.bincount(drawn, minlength=5)
    assert ((counts - expected) ** 2 / expected).sum() < CRITICAL[4]
    uniform = torch.full((5,), 4000.0)
    assert ((counts - uniform) ** 2 / uniform).sum() > CRITICAL[4]


def test_with_top_p_only_the_nucleus_is_drawn_in_its_own_proportions() -> None:
    # probabilities .4 .3 .2 .1: the smallest set that holds .75 is the first three, so 4/9 3/9 2/9
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    chance = torch.rand(20_000, generator=torch.Generator().manual_seed(1))
    counts = torch.bincount(draw_tokens(logits.repeat(20_000, 1), chance, Decoding(1.0, 0.75, 1)), minlength=4)
    expected = 20_000 * torch.tensor([4, 2, 3]) / 9
    assert counts[0] == 0
    assert ((counts[1:] - expected) ** 2 / expected).sum() < CRITICAL[2]


@pytest.mark.parametrize(("top_p", "n"), [(0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.89, 3), (0.91, 4), (1.0, 4)])
def test_the_nucleus_is_the_smallest_set_that_holds_top_p(top_p: float, n: int) -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().repeat(1000, 1)
    chance = torch.linspace(0, 1 - 2**-24, 1000)
    assert set(draw_tokens(logits, chance, Decoding(1.0, top_p, 1)).tolist()) == set([1, 3, 2, 0][:n])


LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12)
CHANCE = st.floats(0, 1 - 2**-24, width=32)


@given(logits=LOGITS, chance=CHANCE, temperature=st.floats(0.01, 10))
@settings(max_examples=200, deadline=None)
def test_a_tiny_top_p_is_the_most_probable_token(logits: list[float], chance: float, temperature: float) -> None:
    (drawn,) = draw_tokens(torch.tensor([logits]), torch.tensor([chance]), Decoding(temperature, 1e-9, 1)).tolist()
    assert logits[drawn] == pytest.approx(max(logits), abs=1e-5)


@given(logits=LOGITS, chance=CHANCE, top_p=st.floats(0.01, 1), temperature=st.floats(0.1, 10))
@settings(max_examples=300, deadline=None)
def test_no_token_outside_the_nucleus_is_ever_drawn(
    logits: list[float], chance: float, top_p: float, temperature: float
) -> None:
    (drawn,) = draw_tokens(torch.tensor([logits]), torch.tensor([chance]), Decoding(temperature, top_p, 1)).tolist()
    probabilities = (torch.tensor(logits, dtype=torch.float64) / temperature).softmax(0)
    more_probable = probabilities[probabilities > probabilities[drawn] * (1 + 1e-5)].sum()
    assert more_probable < top_p + 1e-5  # else those before it hold top_p already


def test_a_token_without_probability_is_never_drawn() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 0.0, -torch.inf]]).repeat(1001, 1)
    chance = torch.cat([torch.linspace(0, 1, 1001)[:-1], torch.tensor([1 - 2**-24])])
    assert set(draw_tokens(logits, chance, Decoding(1.0, 1.0, 1)).tolist()) == {0, 2}


def test_each_row_is_drawn_by_its_own_number() -> None:
    logits = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9]]).log()
    assert draw_tokens(logits, torch.tensor([0.6, 0.6, 0.05]), Decoding(1.0, 1.0, 1)).tolist() == [1, 0, 1]


@pytest.mark.parametrize("top_p", [0.5, 0.95, 1.0])
def test_of_a_large_vocabulary_the_same_tokens_are_drawn_as_by_sorting_it(top_p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    sharpness = torch.linspace(0.1, 12, 40)[:, None]  # nuclei of a few tokens, and of more than are sorted at first
    logits = torch.randn((40, 20_000), generator=generator) * sharpness
    numbers = torch.rand(40, generator=generator)
    whole = logits.softmax(-1).sort(stable=True, dim=-1, descending=True)
    sizes = (whole.values.cumsum(-1) < top_p).sum(-1)
    assert (sizes > N_LIKELY).any() and (top_p == 1 or (sizes < 20).any())
    expected = select(*whole, numbers, top_p)
    assert torch.equal(draw_tokens(logits, numbers, Decoding(1.0, top_p, 1)), expected)
