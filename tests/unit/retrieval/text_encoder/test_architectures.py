"""A text has one vector: alone, in a batch, on torch and on OpenVINO, in every architecture."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tests.tiny_encoders import (
    ARCHITECTURES,
    POSITIONS,
    WORDS,
    save_encoder,
    words_tokenizer,
)
from winnow.errors import EncoderError
from winnow.retrieval.encoder_training.train import EncoderTrainConfig, EncoderTrainer
from winnow.retrieval.text_encoder import encoder as encoder_module
from winnow.retrieval.text_encoder.encoder import TextEncoder, inference_backend
from winnow.retrieval.text_encoder.openvino import OpenVinoTransformer
from winnow.retrieval.text_encoder.ref import EncoderRef

DRAW = np.random.default_rng(0)
TEXTS = [" ".join(DRAW.choice(WORDS, words)) for words in (33, 1, 200, 2, 17, 9, 60, 5)]
"""From one word to beyond the local attention and the positions of `tiny_encoders`."""
CONVERTED = {"bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "electra", "albert", "t5"}
"""Architectures that OpenVINO computes as torch does."""


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / request.param
    return save_encoder(request.param, folder)


def test_a_vector_is_the_same_alone_in_a_batch_and_by_the_backend_of_inference(folder, caplog):
    plain = TextEncoder.load(folder)
    together = plain.encode_documents(TEXTS)
    assert together.std(axis=0).mean() > 0.01  # texts differ
    alone = np.concatenate([plain.encode_documents([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    inference = TextEncoder.for_inference(folder, precision="float32")
    np.testing.assert_allclose(inference.encode_documents(TEXTS), together, atol=1e-5)
    expected = "torch"
    if inference_backend() == "openvino":
        expected = "openvino" if folder.name in CONVERTED else "torch"
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == (folder.name not in CONVERTED)
        assert all("not OpenVINO" in warning.getMessage() for warning in warnings)
    assert inference.backend == expected


def test_without_dropout_two_passes_of_training_are_equal(folder):
    encoder = TextEncoder.load(folder)
    tokens = encoder.tokens(TEXTS, "document")
    batch = tokens.padded(np.arange(len(TEXTS)), encoder.padding)

    def passes(dropout):
        config = EncoderTrainConfig(dropout=dropout, precision="float32")
        EncoderTrainer(config, encoder, None, None, None)
        encoder.model.train()
        return [encoder(*batch).detach() for _ in range(2)]

    assert not torch.equal(*passes(0.5))
    assert torch.equal(*passes(0.0))


def test_texts_are_cut_to_the_positions_that_the_weights_have(folder):
    encoder = TextEncoder.load(folder)
    shifted = {"roberta", "xlm-roberta", "mpnet"}  # their first two positions are those of padding
    wanted = POSITIONS - 2 if folder.name in shifted else POSITIONS
    assert encoder.most_tokens == (512 if folder.name == "t5" else wanted)
    shares = encoder.truncation["document"].shares("document")
    assert shares == {"document_texts_cut": 0, "document_tokens_lost": 0}
    encoder = TextEncoder.load(EncoderRef(model=str(folder), max_tokens=12))
    assert encoder.encode_documents(["nu " * 10, "nu " * 30]).shape == (2, 32)
    shares = encoder.truncation["document"].shares("document")
    assert shares == {"document_texts_cut": 0.5, "document_tokens_lost": 0.5}


def test_a_saved_encoder_is_read_again(folder, tmp_path):
    encoder = TextEncoder.load(folder)
    encoder.save(tmp_path)
    again = TextEncoder.load(tmp_path)
    np.testing.assert_array_equal(again.encode_queries(TEXTS), encoder.encode_queries(TEXTS))


@pytest.mark.skipif(inference_backend() != "openvino", reason="OpenVINO is not installed")
def test_int8_of_what_openvino_cannot_compile_is_refused(tmp_path):
    with pytest.raises(
        EncoderError, match=r"int8 needs a CPU and OpenVINO: it cannot convert a llama"
    ):
        TextEncoder.for_inference(save_encoder("llama", tmp_path), precision="int8")


@pytest.mark.skipif(inference_backend() != "openvino", reason="OpenVINO is not installed")
@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_wrongly_compiled_encoder_is_not_used(tmp_path, monkeypatch, caplog, factor):
    folder = save_encoder("bert", tmp_path)
    right = OpenVinoTransformer.__call__

    def wrong(self, ids_BL, real_BL):
        hidden_BLD = right(self, ids_BL, real_BL)
        return torch.cat([hidden_BLD[:, :, :1] * factor + 1, hidden_BLD[:, :, 1:]], dim=2)

    monkeypatch.setattr(OpenVinoTransformer, "__call__", wrong)
    encoder = TextEncoder.for_inference(folder, precision="float32")
    assert encoder.backend == "torch"
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "vectors of a padded batch differ from torch's" in warning


def test_vectors_that_are_not_finite_are_refused_with_the_text(tmp_path):
    encoder = TextEncoder.load(save_encoder("bert", tmp_path))
    with torch.no_grad():
        rows = encoder.model.embeddings.word_embeddings.weight
        rows[encoder.tokenizer.convert_tokens_to_ids("xi")] = float("inf")
    said = (
        f"{tmp_path} .torch. gives vectors with NaN or infinity for 1 of 3 texts, such as 'nu xi'"
    )
    for encode in (encoder.encode_documents, encoder.encode_queries):
        with pytest.raises(EncoderError, match=said):
            encode(["alpha", "nu xi", "beta"])


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("Bart", {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1}, "bart has a decoder"),
        ("ViT", {"hidden_size": 32, "num_hidden_layers": 1}, "cannot encode texts"),
    ],
)
def test_what_is_no_encoder_of_texts_is_refused_in_one_sentence(tmp_path, kind, values, said):
    heads = {"num_attention_heads": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = getattr(transformers, f"{kind}Config")(**values | heads)
    words_tokenizer(64).save_pretrained(tmp_path)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=said) as caught:
        TextEncoder.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_and_foreign_weights_are_refused(tmp_path):
    save_encoder("bert", tmp_path)
    small = transformers.BertModel(
        transformers.BertConfig(vocab_size=18, hidden_size=32, num_hidden_layers=1,
                                num_attention_heads=2, intermediate_size=64,
                                max_position_embeddings=POSITIONS)
    )  # fmt: skip
    config = (tmp_path / "config.json").read_bytes()
    small.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(config)
    with pytest.raises(EncoderError, match=r"weights are missing, encoder\.layer\.1"):
        TextEncoder.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no_such_model"}')
    with pytest.raises(EncoderError, match="holds no encoder that can be loaded"):
        TextEncoder.load(tmp_path)


def test_a_batch_that_does_not_fit_is_halved_and_the_others_are_made_smaller(tmp_path, monkeypatch):
    encoder = TextEncoder.load(save_encoder("bert", tmp_path))
    wanted = encoder.encode_documents(TEXTS)
    tried, call = [], TextEncoder.__call__

    def small_memory(self, ids_BL, real_BL):
        tried.append(ids_BL.numel())
        if ids_BL.numel() > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(self, ids_BL, real_BL)

    monkeypatch.setattr(TextEncoder, "__call__", small_memory)
    room = 150
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), wanted, atol=1e-5)
    assert sum(size > room for size in tried) == 2  # 8 texts, 4 texts; never again
    room = 40
    with pytest.raises(EncoderError, match="one text of 70 tokens does not fit the memory of cpu"):
        encoder.encode_documents(TEXTS)


def test_a_device_without_a_known_size_has_batches_too(tmp_path, monkeypatch):
    monkeypatch.setattr(encoder_module, "BATCH_TOKENS", {})
    encoder = TextEncoder.load(save_encoder("bert", tmp_path))
    assert encoder.encode_documents(TEXTS).shape == (len(TEXTS), 32)
