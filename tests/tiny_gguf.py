"""Writes GGUF files of one layer, of Llama's and Qwen2's shapes."""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize
from tokenizers import pre_tokenizers

WIDTH, N_HEADS, N_WORDS = 256, 4, 300
KINDS = {
    "F16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "Q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "Q4_1": (GGMLQuantizationType.Q4_1, LlamaFileType.MOSTLY_Q4_1),
    "Q4_K": (GGMLQuantizationType.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
}
LAYER = {  # the file's name of a weight, and transformers'
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def stored(kind: GGMLQuantizationType, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random matrix as the file holds it, and the float32 values that this stands for."""
    values = generator.normal(0, 0.05, (WIDTH, WIDTH)).astype(np.float32)
    if kind == GGMLQuantizationType.Q4_K:  # the package reads this kind and does not write it
        blocks = generator.integers(0, 256, (WIDTH, 144), dtype=np.uint8)
        blocks[:, :4] = np.array([0.01, 0.02], np.float16).view(np.uint8)
        return blocks, dequantize(blocks, kind)
    data = values.astype(np.float16) if kind == GGMLQuantizationType.F16 else quantize(values, kind)
    return data, data.astype(np.float32) if kind == GGMLQuantizationType.F16 else dequantize(data, kind)


def unpermuted(values: np.ndarray) -> np.ndarray:
    """Rows of Llama's queries and keys in transformers' order; the format turns halves into neighbours."""
    return values.reshape(N_HEADS, WIDTH // N_HEADS // 2, 2, WIDTH).swapaxes(1, 2).reshape(WIDTH, WIDTH)


def write_gguf(file: Path, architecture: str, kind: str) -> dict[str, np.ndarray]:
    """Write a model of one layer; the weights that transformers should open, by its names."""
    quantisation, file_type = KINDS[kind]
    generator, expected = np.random.default_rng(0), {}
    writer = GGUFWriter(file, architecture)
    writer.add_file_type(file_type)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(N_WORDS)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, "<s>", "</s>"]
    words += [f"w{i}" for i in range(N_WORDS - len(words))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([3 if word in ("<s>", "</s>") else 1 for word in words])
    writer.add_token_merges(["w 1"])
    writer.add_bos_token_id(len(letters))
    writer.add_eos_token_id(len(letters) + 1)
    for name, ours in LAYER.items():
        data, values = stored(quantisation, generator)
        writer.add_tensor(f"blk.0.{name}.weight", data, raw_dtype=quantisation)
        swaps = architecture == "llama" and name in ("attn_q", "attn_k")
        expected[f"model.layers.0.{ours}.weight"] = unpermuted(values) if swaps else values
        if architecture == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
            bias = generator.normal(0, 0.05, WIDTH).astype(np.float32)
            writer.add_tensor(f"blk.0.{name}.bias", bias)
            expected[f"model.layers.0.{ours}.bias"] = bias
    norms = {"blk.0.attn_norm": "layers.0.input_layernorm", "blk.0.ffn_norm": "layers.0.post_attention_layernorm"}
    for name, ours in (norms | {"output_norm": "norm"}).items():
        values = generator.normal(1, 0.05, WIDTH).astype(np.float32)
        writer.add_tensor(f"{name}.weight", values)
        expected[f"model.{ours}.weight"] = values
    embedding = generator.normal(0, 0.05, (N_WORDS, WIDTH)).astype(np.float32)
    writer.add_tensor("token_embd.weight", embedding)
    expected["model.embed_tokens.weight"] = embedding
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected
