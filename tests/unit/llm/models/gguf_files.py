"""GGUF files of random models, written as llama.cpp's converter writes them."""

import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from winnow.llm.models.from_gguf import LAYER, WHOLE

HEADS, KV_HEADS = 4, 2
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he"]
"""Of the byte-level alphabet, so that words become more than their bytes."""


def random_model(kind, *, tied=True, layers=2):
    """A model whose heads, widths and positions all differ, so that no mix-up goes unseen."""
    make, config = {
        "llama": (LlamaForCausalLM, LlamaConfig),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    }[kind]
    torch.manual_seed(1)
    model = make(
        config(
            vocab_size=len(vocabulary()),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
            tie_word_embeddings=tied,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases too
            parameter.copy_(torch.randn_like(parameter) / 5)
    return model.eval()


def vocabulary():
    return [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġt", "he", "Ġthe"]


def tokenizer():
    """The tokenizer that the files describe, built without them."""
    ids = {token: i for i, token in enumerate(vocabulary())}
    made = Tokenizer(models.BPE(ids, [tuple(merge.split()) for merge in MERGES]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(SPECIAL)
    return made


def write_gguf(model, file, *, quantised=GGMLQuantizationType.F32, leave_out=(), extra=()):
    """Write the model; `leave_out` names fields, `extra` further tensors."""
    config = model.config
    kind = config.model_type
    writer = GGUFWriter(file, kind)
    fields = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "head_count": HEADS,
        "head_count_kv": KV_HEADS,
        "layer_norm_rms_eps": config.rms_norm_eps,
        "rope_freq_base": 100_000.0,
    }
    for name, value in fields.items():
        if name not in leave_out:
            getattr(writer, f"add_{name}")(value)
    if "license" not in leave_out:
        writer.add_license("apache-2.0")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if kind == "llama" else "qwen2")
    writer.add_token_list(vocabulary())
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(vocabulary()) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    names = {theirs: ours for ours, theirs in (WHOLE | LAYER).items()}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, _, part = name.rpartition(".")
        layer, weights = "", tensor.numpy()
        if stem.startswith("model.layers."):
            number, _, stem = stem.removeprefix("model.layers.").partition(".")
            layer = f"blk.{number}."
        if kind == "llama" and stem.endswith((".q_proj", ".k_proj")):
            heads = HEADS if stem.endswith("q_proj") else KV_HEADS
            shape = weights.shape  # each head's halves, row by row in turn
            weights = weights.reshape(heads, 2, -1, shape[1]).swapaxes(1, 2).reshape(shape)
        kept = quantised if weights.ndim == 2 else GGMLQuantizationType.F32
        data = quantize(weights, kept)
        writer.add_tensor(f"{layer}{names[stem]}.{part}", data, raw_dtype=kept)
    for name in extra:
        writer.add_tensor(name, torch.ones(4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
