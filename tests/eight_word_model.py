"""A model of eight words whose probabilities a test sets, so that losses can be worked out on paper.

For numbers by hand. For tests that need texts and programs take small_llama.
"""

import math
from pathlib import Path
from typing import Any

# A vocabulary of eight words, and chat turns as [user] hello </s> [assistant] good </s>.
WORDS = ("<pad>", "<s>", "</s>", "[user]", "[assistant]", "hello", "good", "bad")
TURNS = (
    "{{ bos_token }}{% for message in messages %} [{{ message.role }}] {{ message.content }} {{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %} [assistant]{% endif %}"
)


def write_word_model(folder: Path, chat: str | None) -> Path:
    """A model of WORDS whose answer to anything is a draw from one distribution, at first the uniform one.

    All words have the same embedding (ones) and the layers add nothing to it, so the last hidden state is a row of ones
    (its root mean square is 1), and the logit of a word is the sum of its row in the output layer: 0 at first.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, chat_template=chat, **special)
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, rms_norm_eps=0.0, **sizes)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(1)
        for part in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj, model.lm_head):
            part.weight.zero_()
    model.save_pretrained(folder)
    return folder


def answer_with(model: Any, probabilities: dict[str, float]) -> None:
    """Set the distribution of the words; what is left is shared out among the other ones."""
    import torch

    rest = (1 - sum(probabilities.values())) / (len(WORDS) - len(probabilities))
    values = torch.tensor([probabilities.get(word, rest) for word in WORDS])
    with torch.no_grad():
        model.lm_head.weight.copy_((values.log() / 16)[:, None].expand(8, 16))


def word_rows(is_chat: bool) -> list[dict[str, Any]]:
    """The pair hello: good or bad, once to train on and once held out, as stage pairs has it."""
    sides = {"prompt": ("user", "hello"), "chosen": ("assistant", "good"), "rejected": ("assistant", "bad")}
    if is_chat:
        texts: dict[str, Any] = {name: [{"role": role, "content": text}] for name, (role, text) in sides.items()}
    else:
        texts = {"prompt": "hello ", "chosen": "good ", "rejected": "bad "}
    counts = {"prompt_tokens": 5 if is_chat else 1, "chosen_tokens": 2, "rejected_tokens": 2}
    return [{"pair": f"p{i}", **texts, **counts, "is_held_out": bool(i)} for i in range(2)]


# The reference is uniform, 1/8 a word. The model answers good 1/2, </s> 1/4, bad 1/8 and the other five 1/40 each. So
# the chosen "good </s>" became (1/2 * 1/4) / (1/8 * 1/8) = 8 times as likely, the rejected "bad </s>" 2 times, and with
# beta = 1/2 the margin is 1/2 * (ln 8 - ln 2) = ln 2.
LEARNT = {"good": 1 / 2, "</s>": 1 / 4, "bad": 1 / 8}
LN2 = math.log(2)
