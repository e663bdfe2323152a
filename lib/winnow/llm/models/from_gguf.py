"""A GGUF file as a folder that transformers and vLLM load: weights, config, tokenizer, template.

GGUF is the file format of llama.cpp: one file with metadata and quantised tensors. The `gguf`
package reads it and undoes the quantisation; names, layout and config are set here.

Left out: architectures other than `llama` and `qwen2`, and rotary positions that are scaled by
factors in the file (Llama 3.1 and later), whose kind of scaling the file does not tell.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from winnow.errors import GenerationError

logger = logging.getLogger(__name__)

SHARD_BYTES = 4 << 30
"""A file of weights is at most this large, and one tensor more: all of it is in memory at once."""
SAY_EVERY = 50
"""Tensors between two lines of the log: a second or two."""
WHOLE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Names of a layer's tensors, in the file and in transformers."""


def convert_gguf(file: Path, folder: Path) -> dict[str, Any]:
    """Write the model in `file` into the empty `folder`, its weights in bfloat16.

    Returns:
        Architecture, licence as the file states it, parameters and kinds of quantisation.

    Raises:
        GenerationError: the file is no GGUF file, lacks a field, or holds another architecture.
    """
    reader = _open(file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = _config(fields, {tensor.name for tensor in reader.tensors}, file)
    config.save_pretrained(folder)
    parameters = _write_weights(_weights(reader, config, file), folder)
    _write_tokenizer(file, folder, fields)
    return {
        "architecture": config.model_type,
        "licence_in_file": str(fields.get("general.license", "not stated")),
        "parameters": parameters,
        "quantised": sorted({tensor.tensor_type.name for tensor in reader.tensors}),
    }


def _open(file: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError:
        raise GenerationError(
            "the package gguf, which reads such files, is not installed: pip install 'winnow[gguf]'"
        ) from None
    try:
        return GGUFReader(file)
    except Exception as error:  # whatever a strange file makes the reader raise
        raise GenerationError(f"{file} is not a whole GGUF file: {error!r:.300}") from error


def _config(fields: Mapping[str, Any], tensors: set[str], file: Path) -> Any:
    from transformers import LlamaConfig, Qwen2Config

    kind = fields.get("general.architecture")
    makers = {"llama": LlamaConfig, "qwen2": Qwen2Config}
    if kind not in makers:
        raise GenerationError(f"{file} holds a {kind!r} model; llama and qwen2 can be converted")
    if "rope_freqs.weight" in tensors:
        raise GenerationError(
            f"{file} scales its rotary positions by rope_freqs, which does not tell how: take the "
            "model's safetensors instead"
        )

    def field(name: str, default: Any = None) -> Any:
        found = fields.get(f"{kind}.{name}", default)
        if found is None:
            raise GenerationError(f"{file} has no field {kind}.{name}")
        return found

    heads = int(field("attention.head_count"))
    hidden = int(field("embedding_length"))
    head_dim = int(field("attention.key_length", hidden // heads))
    rope = {"rope_type": "default", "rope_theta": float(field("rope.freq_base", 10_000.0))}
    return makers[kind](
        vocab_size=len(fields.get("tokenizer.ggml.tokens", ())),
        hidden_size=hidden,
        intermediate_size=int(field("feed_forward_length")),
        num_hidden_layers=int(field("block_count")),
        num_attention_heads=heads,
        num_key_value_heads=int(field("attention.head_count_kv", heads)),
        **({"head_dim": head_dim} if kind == "llama" else {}),
        max_position_embeddings=int(field("context_length")),
        # written as the float32 next to it; 1e-5 is what its makers' config says
        rms_norm_eps=float(f"{field('attention.layer_norm_rms_epsilon'):.6g}"),
        rope_parameters=rope,
        tie_word_embeddings="output.weight" not in tensors,
        architectures=["LlamaForCausalLM" if kind == "llama" else "Qwen2ForCausalLM"],
        dtype="bfloat16",
        **{name: fields.get(f"tokenizer.ggml.{name}") for name in ("bos_token_id", "eos_token_id")},
        pad_token_id=fields.get("tokenizer.ggml.padding_token_id"),
    )


def _weights(reader: Any, config: Any, file: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in bfloat16 under transformers' name."""
    from gguf import dequantize

    for number, tensor in enumerate(reader.tensors):
        if number % SAY_EVERY == 0:
            logger.info("converting %s: tensor %d of %d", file.name, number, len(reader.tensors))
        name = _name(tensor.name, file)
        weights = dequantize(tensor.data, tensor.tensor_type)
        if config.model_type == "llama" and ".q_proj." in name:
            weights = _halves(weights, config.num_attention_heads)
        elif config.model_type == "llama" and ".k_proj." in name:
            weights = _halves(weights, config.num_key_value_heads)
        # a copy: what is not quantised lies in the mapped file, which torch must not hold
        yield name, torch.from_numpy(np.array(weights, np.float32)).to(torch.bfloat16)


def _name(tensor: str, file: Path) -> str:
    """Transformers' name of a tensor such as `blk.0.attn_q.weight`."""
    stem, _, part = tensor.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{part}"
    match stem.split("."):
        case ["blk", layer, name] if name in LAYER:
            return f"model.layers.{layer}.{LAYER[name]}.{part}"
    raise GenerationError(f"{file} holds a tensor {tensor!r}, which these models do not have")


def _halves(weights: Any, heads: int) -> Any:
    """Rows of each head as two halves; files of llama models hold the halves interleaved."""
    pairs = weights.reshape(heads, -1, 2, *weights.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weights.shape)


def _write_weights(weights: Iterator[tuple[str, Tensor]], folder: Path) -> int:
    """Write tensors in files of `SHARD_BYTES` with an index; returns the number of parameters."""
    where: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    parameters = 0

    def flush() -> None:
        file = f"model-{len(set(where.values())) + 1:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)  # written private; the engine may be another user
        where.update(dict.fromkeys(shard, file))
        shard.clear()

    for name, tensor in weights:
        shard[name] = tensor
        parameters += tensor.numel()
        if sum(held.nbytes for held in shard.values()) > SHARD_BYTES:
            flush()
    if shard:
        flush()
    index = {"metadata": {"total_size": 2 * parameters}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    return parameters


def _write_tokenizer(file: Path, folder: Path, fields: Mapping[str, Any]) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # kinds of vocabulary that transformers cannot rebuild
        raise GenerationError(f"{file}: its tokenizer cannot be read: {error!r:.300}") from error
    if template := fields.get("tokenizer.chat_template"):
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    ids = {name: fields.get(f"tokenizer.ggml.{name}") for name in ("bos_token_id", "eos_token_id")}
    GenerationConfig(**ids).save_pretrained(folder)
