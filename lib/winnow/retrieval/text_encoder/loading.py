"""Weights and tokenizer of a Hugging Face directory, and the longest text that they take."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from winnow.errors import EncoderError

ENCODER_HALVES = ("t5", "mt5", "umt5")
"""Encoder-decoders whose encoder half is an encoder of texts by itself."""
POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")
"""Names of tables with a row for each position of a text."""
UNSAID_TOKENS = 512
"""Tokens of the longest text where neither weights nor tokenizer name a limit, as with T5: most
encoders without a limit in their files were trained on no more."""


def transformer_folder(folder: Path) -> Path:
    """Folder of weights and tokenizer: the folder itself, or a subfolder in older directories."""
    if not folder.is_dir():
        raise EncoderError(f"{folder} is no folder with an encoder")
    if (folder / "config.json").is_file():
        return folder
    inner = sorted(path.parent for path in folder.glob("*Transformer/config.json"))
    if not inner:
        raise EncoderError(f"{folder} has no config.json, so it holds no Hugging Face encoder")
    return inner[0]


def load_model(folder: Path, dtype: torch.dtype) -> nn.Module:
    """The encoder of a directory, ready to encode; of a T5 its encoder half.

    Raises:
        EncoderError: it is no encoder, has other weights than its config says, or needs code from
            its own directory.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

    problem = f"{folder} holds no encoder that can be loaded"
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        kind = AutoModelForTextEncoding if config.model_type in ENCODER_HALVES else AutoModel
        model, found = kind.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # every architecture and file format raises types of its own
        raise EncoderError(f"{problem}: {first_line(error)}") from error
    if getattr(model.config, "is_encoder_decoder", False):
        halves = ", ".join(ENCODER_HALVES)
        raise EncoderError(
            f"{problem}: {config.model_type} has a decoder; of such, {halves} can be"
        )
    # What pools for a classifier is not used here, and many published encoders lack it.
    missing = sorted(name for name in found["missing_keys"] if "pooler" not in name)
    if missing:
        raise EncoderError(f"{problem}: {len(missing)} weights are missing, {missing[0]} is one")
    return model.eval()  # type: ignore[no-any-return]


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a directory, with a Rust backend and a vocabulary."""
    from transformers import AutoTokenizer

    missing = f"{folder} has no tokenizer.json that fits its weights; save the tokenizer there too"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # every file format raises types of its own
        raise EncoderError(missing) from error
    special = len(tokenizer.all_special_tokens)
    if not getattr(tokenizer, "is_fast", False) or len(tokenizer) <= special:
        raise EncoderError(missing)
    return tokenizer


def longest_text(model: nn.Module, tokenizer: Any) -> int:
    """Tokens of the longest text that weights and tokenizer allow, special tokens included."""
    config: Any = model.config
    limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if name.rpartition(".")[2] in POSITION_TABLES and isinstance(weight, torch.Tensor):
            # RoBERTa and its kin count positions from the one after that of padding.
            padding = getattr(module, "padding_idx", None)
            limits.append(len(weight) - (0 if padding is None else padding + 1))
    no_limit = 10**9  # transformers writes 10^30 for "none", XLNet -1
    return int(min((at for at in limits if at and 0 < at < no_limit), default=UNSAID_TOKENS))


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
