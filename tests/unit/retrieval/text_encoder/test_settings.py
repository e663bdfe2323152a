"""Texts put before queries and documents: found under published names, set, or refused."""

import json
import logging

import pytest

from winnow.errors import EncoderError
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.find import find_encoder
from winnow.retrieval.text_encoder.ref import EncoderRef
from winnow.retrieval.text_encoder.settings import EncoderSettings
from winnow.retrieval.toy import make_tiny_encoder

TEXTS = ["the moon pulls the sea", "rain at night"]
PROMPTS_FILE = "config_sentence_transformers.json"
PUBLISHED = {
    "E5-Mistral": ({"web_search_query": "Q: ", "sts_query": "S: "}, ("Q: ", "")),
    "Jina": ({"retrieval.query": "Q: ", "retrieval.passage": "D: ", "separation": "S: "}, None),
    "Nomic": ({"search_query": "Q: ", "search_document": "D: ", "clustering": "C: "}, None),
    "Arctic": ({"query": "Q: "}, ("Q: ", "")),
    "GTE": ({"query": "Q: ", "passage": "D: "}, None),
    "EmbeddingGemma": ({"query": "Q: ", "document": "D: ", "Clustering": "C: "}, None),
    "old": ({"query": "Q: ", "corpus": "D: "}, None),
}
"""Names of prompts in published files, and which texts go before queries and documents."""


def read(folder, **ref):
    settings = EncoderSettings.read(folder, most_tokens=64, ref=EncoderRef(**ref))
    return settings.query_prefix, settings.document_prefix


def write_prompts(folder, prompts, default=None):
    content = {"prompts": prompts, "default_prompt_name": default}
    (folder / PROMPTS_FILE).write_text(json.dumps(content))


@pytest.mark.parametrize("model", PUBLISHED)
def test_prompts_are_found_under_their_published_names(tmp_path, caplog, model):
    prompts, wanted = PUBLISHED[model]
    write_prompts(tmp_path, prompts)
    assert read(tmp_path) == (wanted or ("Q: ", "D: "))
    assert not caplog.records


def test_a_config_names_a_prompt_or_gives_a_text(tmp_path):
    write_prompts(tmp_path, PUBLISHED["E5-Mistral"][0])
    assert read(tmp_path, query_prefix="sts_query") == ("S: ", "")
    assert read(tmp_path, query_prefix="query: ", document_prefix="passage: ") == (
        "query: ", "passage: "
    )  # fmt: skip
    assert read(tmp_path, query_prefix="") == ("", "")


def test_the_default_prompt_stands_in_as_in_sentence_transformers(tmp_path):
    write_prompts(tmp_path, {"query": "Q: ", "any": "A: "}, default="any")
    assert read(tmp_path) == ("Q: ", "A: ")


def test_prompts_of_which_none_is_taken_are_warned_of(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    write_prompts(tmp_path, {"sts": "S: ", "bitext": "B: "})
    assert read(tmp_path) == ("", "")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "set query_prefix and document_prefix to one of sts, bitext, or to a text" in warning
    caplog.clear()
    read(tmp_path, query_prefix="sts")  # somebody chose
    write_prompts(tmp_path, {"query": "", "document": "", "sts": "S: "})  # the files chose none
    read(tmp_path)
    assert not caplog.records


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (PROMPTS_FILE, "{", "is no JSON"),
        (PROMPTS_FILE, "[]", "must hold a JSON object"),
        (PROMPTS_FILE, '{"prompts": ["query"]}', "prompts must be an object"),
        ("modules.json", "{}", "must hold a JSON list"),
        ("modules.json", '[{"idx": 0}]', "every module must have a type and path"),
        ("modules.json", "\xff", "has no module Transformer|is no JSON"),
    ],
)
def test_settings_that_cannot_be_read_are_refused_with_the_file(tmp_path, file, content, said):
    (tmp_path / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(EncoderError, match=said) as caught:
        read(tmp_path)
    assert str(tmp_path / file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    make_tiny_encoder(folder, TEXTS)
    return folder


def test_a_prefix_that_leaves_no_room_is_refused(folder):
    long = "the moon pulls the sea " * 20
    with pytest.raises(EncoderError, match=r"the query prefix 'the moon .* max_tokens=64 leaves"):
        TextEncoder.load(EncoderRef(model=str(folder), query_prefix=long))
    with pytest.raises(EncoderError, match="query prefix '' and special tokens take 2 tokens"):
        TextEncoder.load(EncoderRef(model=str(folder), max_tokens=2))
    encoder = TextEncoder.load(EncoderRef(model=str(folder), max_tokens=9))
    assert encoder.settings.max_tokens == 9
    with pytest.raises(EncoderError, match=r"the document prefix .* leaves no room for a text"):
        TextEncoder.load(EncoderRef(model=str(folder), document_prefix=long))
    with pytest.raises(ValueError, match="max_tokens must be 0 or more"):
        EncoderRef(max_tokens=-1)


@pytest.mark.parametrize("missing", [None, float("nan"), 7])
def test_what_is_no_text_is_refused(folder, missing):
    encoder = TextEncoder.load(folder)
    with pytest.raises(ValueError, match="document 1 must be a text, got"):
        encoder.encode_documents(["rain", missing])


def test_a_revision_is_one_of_the_hub(folder, monkeypatch):
    with pytest.raises(EncoderError, match="revision=v2 is for a Hugging Face id"):
        find_encoder(str(folder), "v2")
    asked = []

    def download(name, revision):
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    TextEncoder.load(EncoderRef(model="owner/name", revision="abc"))
    TextEncoder.load(EncoderRef(model="owner/name"))
    assert asked == [("owner/name", "abc"), ("owner/name", None)]
