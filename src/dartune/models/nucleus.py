"""Draws tokens from the nucleus of a distribution (top-p, arXiv 1904.09751), whatever the size of the vocabulary."""

import torch

from dartune.models.backend import Decoding

N_LIKELY = 512  # tokens of a large vocabulary that are sorted


def draw_tokens(logits: torch.Tensor, uniforms: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Return one token id per row, shape (n,). logits: (n, vocabulary). uniforms: (n,), numbers in [0, 1).

    The nucleus is the smallest set of most probable tokens with a total probability of at least top_p; a row's number
    selects one of them. Sorting a vocabulary of 150,000 words would take twice as long as the model does, so of a large
    one the N_LIKELY most probable tokens are sorted, and all of it only for rows whose nucleus is larger.
    """
    scores = logits if decoding.temperature == 1 else logits.float() / decoding.temperature
    probabilities = scores.softmax(-1, dtype=torch.float32)
    if probabilities.shape[-1] <= 8 * N_LIKELY:
        return select(*probabilities.sort(stable=True, dim=-1, descending=True), uniforms, decoding.top_p)
    order = scores.topk(N_LIKELY).indices
    likely = probabilities.gather(-1, order)
    tokens = select(likely, order, uniforms, decoding.top_p)
    rest = likely.sum(-1) < decoding.top_p
    if rest.any():
        ordered = probabilities[rest].sort(stable=True, dim=-1, descending=True)
        tokens[rest] = select(*ordered, uniforms[rest], decoding.top_p)
    return tokens


def select(probabilities: torch.Tensor, order: torch.Tensor, uniforms: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return the token of the nucleus that each row's number selects, (n,).

    probabilities: (n, k), falling. order: (n, k), their tokens. uniforms: (n,).
    """
    mass = probabilities.cumsum(-1)
    size = (mass - probabilities < top_p).sum(-1, keepdim=True)
    nucleus_mass = mass.gather(-1, size - 1)
    place = torch.searchsorted(mass, uniforms[:, None] * nucleus_mass, right=True)
    return order.gather(-1, torch.minimum(place, size - 1)).squeeze(-1)
