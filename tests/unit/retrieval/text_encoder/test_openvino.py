"""An encoder compiled by OpenVINO gives the vectors of torch."""

import shutil

import numpy as np
import pytest

from winnow.errors import EncoderError
from winnow.retrieval.text_encoder import encoder as encoder_module
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.settings import EncoderSettings
from winnow.retrieval.toy import make_tiny_encoder

pytest.importorskip("openvino")

TEXTS = ["the moon pulls the sea", "rain", "tides rise and fall twice a day " * 9, "a harbour"] * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    make_tiny_encoder(folder, TEXTS)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_those_of_torch(folder, tmp_path, pooling, normalize):
    folder = shutil.copytree(folder, tmp_path / "changed")
    shutil.rmtree(folder / "2_Normalize", ignore_errors=True)
    EncoderSettings(max_tokens=64, pooling=pooling, normalize=normalize).write(folder, dim=32)
    plain = TextEncoder.load(folder)
    compiled = TextEncoder.for_inference(folder, precision="float32")
    for kind in ("encode_queries", "encode_documents"):
        wanted, found = getattr(plain, kind)(TEXTS), getattr(compiled, kind)(TEXTS)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert compiled._compiled is not None


def test_a_text_has_its_vector_whatever_it_is_encoded_with(folder):
    compiled = TextEncoder.for_inference(folder, precision="float32")
    together = compiled.encode_documents(TEXTS)
    alone = np.concatenate([compiled.encode_documents([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(("precision", "least"), [("bfloat16", 0.999), ("int8", 0.98)])
def test_a_coarser_precision_moves_the_vectors_a_little(folder, precision, least):
    wanted = TextEncoder.load(folder).encode_documents(TEXTS)
    found = TextEncoder.for_inference(folder, precision=precision).encode_documents(TEXTS)
    assert (wanted * found).sum(1).min() > least  # cosines: this encoder's vectors have length 1
    if precision == "int8":  # it is not float32 under another name
        assert np.abs(wanted - found).max() > 1e-5


def test_int8_without_openvino_is_refused_and_auto_is_not(folder, monkeypatch):
    monkeypatch.setattr(encoder_module, "has_openvino", lambda: False)
    with pytest.raises(EncoderError, match=r"winnow\[openvino\]"):
        TextEncoder.for_inference(folder, precision="int8")
    plain = TextEncoder.for_inference(folder, precision="float32")
    np.testing.assert_array_equal(
        plain.encode_documents(TEXTS), TextEncoder.load(folder).encode_documents(TEXTS)
    )
