"""A toy search task with negatives of every source, and a tiny encoder.

Each query and document is about two topics, which they name in different words. An untrained
encoder finds nothing, and training on the pairs helps. The toy shows that a path works; its figures
say nothing about real texts.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from winnow.artifact import create_artifact
from winnow.data.collection import Collection, text_digest
from winnow.retrieval.negatives.pools import SOURCES
from winnow.retrieval.negatives.table import KEPT, NEGATIVES_SCHEMA, NegativesTable
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.settings import EncoderSettings

ASKED = ("moon", "rain", "tide", "harbour", "night", "hill", "road", "bread", "glass", "wool")
ANSWERED = ("la", "re", "mi", "fa", "so", "ti", "do", "ka", "ne", "zu")
"""Documents' words for the topics that ASKED names in queries."""
PAIRS = tuple(combinations(range(len(ASKED)), 2))
"""The two topics of each query and its document."""
TEST_EVERY = 4
"""Every fourth query belongs to split test."""
NEGATIVES = 6
"""Most negatives of each source and query."""


def toy_collection() -> Collection:
    """A collection of 45 documents, each relevant to one query."""
    ids = [str(at) for at in range(len(PAIRS))]
    asking = [f"q{at}" for at in range(len(PAIRS))]
    texts = [f"{ANSWERED[a]} and {ANSWERED[b]}" for a, b in PAIRS]
    asked = [f"{ASKED[a]} {ASKED[b]}" for a, b in PAIRS]
    split = ["train" if at % TEST_EVERY else "test" for at in range(len(ids))]
    return Collection.of(
        {"id": ids, "title": [""] * len(ids), "text": texts},
        {"id": asking, "text": asked},
        {"split": split, "query": asking, "document": ids, "relevance": [1] * len(ids)},
    )


def make_toy_search(collection: Path, encoder: Path, negatives: Path) -> None:
    """Write the collection, an untrained encoder, and negatives of the training queries."""
    toy = toy_collection()
    with create_artifact(collection, "collection", config={}) as draft:
        toy.save(draft.path)
    make_tiny_encoder(encoder, [*toy.document_texts(), *ASKED])
    rows = pa.Table.from_pylist(list(_rows()), NEGATIVES_SCHEMA)
    with create_artifact(negatives, "negatives", config={}) as draft:
        queries = toy.judged("train").query_Q
        draft.metrics |= NegativesTable.save(
            draft.path, [rows], [], wanted=NEGATIVES, queries=len(queries)
        )


def _rows() -> Iterator[dict[str, Any]]:
    """Rows of the negatives table. Near ones share a topic; an LLM's text equals no document."""
    texts = toy_collection().document_texts()
    for q, (a, b) in enumerate(PAIRS):
        if q % TEST_EVERY == 0:
            continue
        near = [at for at, pair in enumerate(PAIRS) if at != q and {a, b} & {*pair}]
        far = [at for at, pair in enumerate(PAIRS) if not {a, b} & {*pair}]
        found: list[tuple[str | None, str]]
        for source in SOURCES:
            if source == "llm":
                others = [c for c in range(len(ASKED)) if c not in (a, b)]
                found = [(None, f"{ANSWERED[a]} or {ANSWERED[c]}") for c in others]
            else:
                found = [(str(at), texts[at]) for at in (far if source == "random" else near)]
            for rank, (document, text) in enumerate(found[q % 3 :][:NEGATIVES]):
                yield _row(f"q{q}", document, text, source, rank)


def _row(query: str, document: str | None, text: str, source: str, rank: int) -> dict[str, Any]:
    return {
        "query": query,
        "document": document,
        "text": None if document else text,
        "source": source,
        "rank": rank,
        "score": 0.0,
        "positive_score": 1.0,
        "verdict": KEPT,
        "digest": text_digest(text),
        "provenance": json.dumps({"by": "toy"}),
    }


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
"""BERT's special tokens, in the order of their ids."""


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
