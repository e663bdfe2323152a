"""A small encoder made on the spot, from nothing: for tests, and to see the path without weights.

Its words are those of the texts it is given. Untrained, it tells texts apart by their words alone.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from winnow.retrieval.encoder import TextEncoder
from winnow.retrieval.encoder_files import EncoderSettings

__all__ = ["make_tiny_encoder"]

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_tiny_encoder(
    folder: Path,
    texts: Iterable[str],
    *,
    dim: int = 32,
    layers: int = 2,
    max_tokens: int = 64,
    vocab_size: int = 2_000,
    seed: int = 0,
) -> TextEncoder:
    """Write a BERT with random weights and a tokenizer of the texts' words into `folder`."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_pieces(texts, vocab_size),
        model_max_length=max_tokens,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    shape = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        intermediate_size=2 * dim,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=max_tokens,
    )
    settings = EncoderSettings(max_tokens=max_tokens)
    encoder = TextEncoder(BertModel(shape).eval(), tokenizer, settings, max_tokens)
    folder.mkdir(parents=True, exist_ok=True)
    encoder.save(folder)
    return encoder


def _word_pieces(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    return tokenizer
