"""Log-probabilities of labels under a frozen head of a large vocabulary, on a CPU.

TRL computes them once for the loss and again for its gradient, in narrow tiles of the vocabulary whose weights it
copies to float32 each time. A label's log-probability is one number, so its gradient with respect to the hidden state,
the label's row of the head less the expected row, is known as soon as it is: it is kept, and scaled in the backward
pass. The idea is Liger's (arXiv 2410.10989).
"""

from typing import Any

import torch
from trl.kernels import ChunkedLogProbFunction

TILE = 2**23  # logits held at once: 32 MiB in float32
KNOWN = {"log_probs", "entropy", "mean_logits", "is_top1"}  # of TRL's outputs


class FrozenHead(torch.autograd.Function):
    """Stands for TRL's ChunkedLogProbFunction; `call` decides between them."""

    @staticmethod
    def call(hidden: Any, weight: Any, bias: Any, targets: Any, temperature: float, *rest: Any) -> tuple[Any, ...]:
        """Take TRL's arguments and return its results, (labels,) each or None: not KNOWN, or not asked for.

        hidden: (labels, width). weight: (vocabulary, width). Heads that are trained, or that are more than a product,
        are TRL's to compute.
        """
        _, softcap, logit_scale, outputs = rest
        is_plain = bias is None and softcap is None and logit_scale == 1.0
        if weight.requires_grad or not is_plain or not set(outputs) <= KNOWN:
            return tuple(ChunkedLogProbFunction.apply(hidden, weight, bias, targets, temperature, *rest))
        log_probs, entropy, is_top1 = FrozenHead.apply(hidden, weight, targets, temperature)  # type: ignore[no-untyped-call]
        mean_logits = None
        if "mean_logits" in outputs:
            mean_logits = hidden.detach().float() @ weight.mean(0, dtype=torch.float32) / temperature
        return log_probs, entropy, None, mean_logits, is_top1

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, temperature: float) -> Any:
        """Return log-probabilities, entropies and whether the label is the likeliest token."""
        ctx.set_materialize_grads(False)  # entropy is mostly for the curves alone
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        n_rows, head = max(1, TILE // len(weight)), weight.to(dtype)
        parts = [
            of_tile(states, head, labels, temperature, ctx.needs_input_grad[0])
            for states, labels in zip(hidden.to(dtype).split(n_rows), targets.split(n_rows), strict=True)
        ]
        log_probs, entropy, is_top1, gradient = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(gradient, hidden, weight, targets)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(is_top1)
        return log_probs, entropy, is_top1

    @staticmethod
    def backward(ctx: Any, of_log_probs: Any, of_entropy: Any, *_: Any) -> Any:
        """Return the gradient of `hidden`."""
        gradient, hidden, weight, targets = ctx.saved_tensors
        result = torch.zeros_like(hidden)
        if of_log_probs is not None:
            result += gradient * of_log_probs[:, None]
        if of_entropy is not None:  # an entropy bonus: TRL's function has its gradient
            with torch.enable_grad():
                states = hidden.detach().requires_grad_()
                arguments = states, weight, None, targets, ctx.temperature, len(weight), None, 1.0, ("entropy",)
                ChunkedLogProbFunction.apply(*arguments)[1].backward(of_entropy)
            result += states.grad
        return result, None, None, None


def of_tile(states: Any, head: Any, labels: Any, temperature: float, needs_gradient: bool) -> tuple[Any, Any, Any, Any]:
    """Return (log-probabilities, entropies, whether the label is the likeliest, gradients of the log-probabilities)."""
    log_probs = torch.log_softmax((states @ head.t()).float() / temperature, -1)
    probs, rows = log_probs.exp(), torch.arange(len(labels), device=labels.device)
    entropy, is_top1 = -torch.linalg.vecdot(probs, log_probs), log_probs.argmax(-1) == labels
    gradient = states[:, :0]
    if needs_gradient:
        probs.neg_()[rows, labels] += 1
        gradient = probs.to(head.dtype) @ head / temperature
    return log_probs[rows, labels], entropy, is_top1, gradient
