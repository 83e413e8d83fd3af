"""A frozen head's log-probabilities and their gradients are those that TRL computes."""

from typing import Any

import pytest
import torch
from trl.kernels import ChunkedLogProbFunction

from dartune.training import label_log_probs
from dartune.training.label_log_probs import FrozenHead

N, WIDTH, N_TOKENS = 30, 16, 90
ALL = ("log_probs", "entropy", "mean_logits", "is_top1")


def arguments(is_trained: bool = False, temperature: float = 0.7, outputs: tuple[str, ...] = ALL) -> list[Any]:
    """Hidden states that need a gradient, the head, and labels of which some are the likeliest token."""
    chance = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, WIDTH, generator=chance).requires_grad_()
    weight = torch.randn(N_TOKENS, WIDTH, generator=chance).requires_grad_(is_trained)
    labels = torch.randint(N_TOKENS, (N,), generator=chance)
    labels[::3] = (hidden @ weight.t()).argmax(-1)[::3]
    return [hidden, weight, None, labels, temperature, 32, None, 1.0, outputs]


def gradient(results: tuple[Any, ...], hidden: torch.Tensor, of_entropy: float) -> torch.Tensor:
    weights = torch.linspace(-1, 1, N)
    loss = (results[0] * weights).sum() + of_entropy * (results[1] * weights**2).sum()
    return torch.autograd.grad(loss, hidden)[0]


@pytest.mark.parametrize("of_entropy", [0.0, 0.3], ids=["log-probabilities", "an entropy bonus too"])
@pytest.mark.parametrize("tile", [label_log_probs.TILE, 7 * N_TOKENS, 1], ids=["one tile", "several", "a row each"])
def test_values_and_gradients_are_those_of_trl(tile: int, of_entropy: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_log_probs, "TILE", tile)
    mine, other = arguments(), arguments()
    results, known = FrozenHead.call(*mine), ChunkedLogProbFunction.apply(*other)
    assert results[4].any() and not results[4].all() and torch.equal(results[4], known[4])
    for index in (0, 1, 3):
        torch.testing.assert_close(results[index], known[index], rtol=1e-5, atol=1e-5)
    expected = gradient(known, other[0], of_entropy)
    torch.testing.assert_close(gradient(results, mine[0], of_entropy), expected, rtol=1e-4, atol=1e-5)


def test_under_autocast_they_are_as_near_to_float32_as_those_of_trl() -> None:
    inputs = [arguments() for _ in range(3)]
    exact = gradient(ChunkedLogProbFunction.apply(*inputs[0]), inputs[0][0], 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        of_each = [
            call(*these) for call, these in ((FrozenHead.call, inputs[1]), (ChunkedLogProbFunction.apply, inputs[2]))
        ]
    mine, other = (gradient(results, these[0], 0.0) for results, these in zip(of_each, inputs[1:], strict=True))
    assert (mine - exact).norm() < 1.5 * (other - exact).norm()


@pytest.mark.parametrize("change", [{"is_trained": True}, {"outputs": (*ALL, "log_sum_sq_probs")}])
def test_what_it_does_not_know_is_trl_s(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_log_probs, "of_tile", None)
    these = arguments(**change)
    for mine, other in zip(FrozenHead.call(*these), ChunkedLogProbFunction.apply(*these), strict=True):
        assert other is None or torch.equal(mine, other)


def test_without_gradients_none_is_computed() -> None:
    hidden, weight, *rest = arguments()
    values = label_log_probs.of_tile(hidden.detach(), weight, rest[1], 1.0, needs_gradient=False)
    assert values[3].numel() == 0
    with torch.no_grad():
        assert not FrozenHead.call(hidden, weight, *rest)[0].requires_grad
