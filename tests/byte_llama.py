"""A small Llama with random weights over single bytes, without a padding token, like the large ones."""

from pathlib import Path
from typing import Any


def write_byte_llama(
    folder: Path, chat: str, seed: int = 0, dtype: str = "float32", spread: float = 0.02, **generation: Any
) -> None:
    """Write model and tokenizer. chat: the template. spread: of the weights. generation: of its generation config."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    pieces = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=chat)
    tokens.save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(pieces), bos_token_id=0, eos_token_id=1, initializer_range=spread, **shape)
    network = LlamaForCausalLM(config).to(getattr(torch, dtype))
    network.generation_config.update(**generation)
    network.save_pretrained(folder)
