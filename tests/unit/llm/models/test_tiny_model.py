"""The tiny model: what it leaves on disk, that it learns, and that a seed repeats it."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs import prepare
from winnow.artifact import open_artifact
from winnow.data.dataset import Dataset
from winnow.errors import GenerationError
from winnow.llm.models.find import make_tiny
from winnow.llm.models.tiny_model import TinyConfig, train_tiny
from winnow.llm.prompting.fit_context import Tokenizer
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.registry import TASKS
from winnow.llm.tasks.sources import DatasetSource, TableSource

TEXT_TASKS = [task for task in TASKS.values() if isinstance(task, TextTask)]
SMALL = TinyConfig(
    hidden=32, layers=1, vocabulary=600, chats=4, answers=20, window=64, steps=12, seconds=60
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=output))
    return Dataset.open(output)


@pytest.fixture(scope="module")
def folder(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    train_tiny(DatasetSource(dataset), TEXT_TASKS, SMALL, folder)
    return folder


def write_table(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TableSource(str(path))


CLAIMS = [
    {"query": f"the {one} moves the {other}", "positive": f"How a {one} moves any {other}. Always."}
    for one in ("zephyr", "quokka")
    for other in ("sextant", "bassoon")
]


def test_the_tiny_model_is_a_hugging_face_folder(folder):
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= names
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert model.config.head_dim == 32
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.vocab_size >= len(tokenizer)


def test_tokenizer_keeps_any_text(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = 'Ünïcode 😀, tabs\tand "quotes"\n  two spaces'
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_prompt_ends_where_the_answer_begins(folder, dataset):
    task = TASKS["user_summary"]
    inputs = next(iter(task.requests(dataset, 1, 0)))
    request = task.request(inputs, model="m", sampling=SamplingConfig())
    tokenizer, messages = Tokenizer(str(folder)), json.loads(request.messages)
    ids = tokenizer.encode(messages)
    system, user = (message["content"] for message in messages)
    prompt = f"[system]{system}<|end|>[user]{user}<|end|>[assistant]"
    assert AutoTokenizer.from_pretrained(folder).decode(ids) == prompt
    assert tokenizer.decode(ids) == f"[system]{system}[user]{user}[assistant]"  # no special tokens


def test_training_lowers_the_loss(dataset, tmp_path):
    def loss(steps):
        config = replace(SMALL, steps=steps)
        return train_tiny(DatasetSource(dataset), TEXT_TASKS, config, tmp_path / str(steps))["loss"]

    untrained = torch.log(torch.tensor(600.0)).item()  # a uniform guess over the vocabulary
    assert loss(1) == pytest.approx(untrained, abs=0.3)
    assert loss(60) < untrained - 1


def test_a_seed_repeats_the_weights(folder, dataset, tmp_path):
    train_tiny(DatasetSource(dataset), TEXT_TASKS, SMALL, tmp_path)
    one, two = (load_file(path / "model.safetensors") for path in (folder, tmp_path))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_a_table_is_learned_from_by_its_own_words(tmp_path):
    bad = [{"query": "no positive"}, {"query": "half a character \ud800", "positive": 7}]
    source = write_table(tmp_path / "in.jsonl", [*bad, *CLAIMS, CLAIMS[0]])
    texts = source.texts([TASKS["hard_negatives"]])
    known = [text for row in CLAIMS for text in row.values()]
    assert texts == ["no positive", "half a character ?", *known]
    found = train_tiny(source, [TASKS["hard_negatives"]], SMALL, tmp_path / "model")
    words = AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab()
    assert {"Ġzephyr", "Ġbassoon"} <= words.keys()  # a token each, so its texts were learned
    assert "violated" in " ".join(words)  # and the answers' form
    assert found["steps"] == SMALL.steps


def test_the_model_of_a_table_is_made_anew_for_another_table(tmp_path):
    def made(rows):
        source = write_table(tmp_path / "in.jsonl", rows)
        output = str(tmp_path / "generation")
        return make_tiny(source, [TASKS["hard_negatives"]], SMALL, output)

    first, _ = made(CLAIMS)
    recorded = open_artifact(tmp_path / "language_model").manifest["config"]
    assert recorded["input"] == TableSource(str(tmp_path / "in.jsonl")).recorded["input"]
    assert made(CLAIMS)[0] == first
    assert made(CLAIMS[:3])[0].digest != first.digest


def test_a_table_without_texts_is_one_clear_error(tmp_path):
    source = write_table(tmp_path / "in.jsonl", [{"title": "a", "text": "b"}])
    with pytest.raises(GenerationError, match="at least 2 different ones, and there are 0; name"):
        make_tiny(source, [TASKS["hard_negatives"]], SMALL, str(tmp_path / "generation"))
    assert not (tmp_path / "language_model").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden", 48), ("layers", 0), ("seconds", 0.0), ("vocabulary", 256)],
)
def test_a_bad_config_is_refused_by_the_field(field, value):
    with pytest.raises(ValueError, match=rf"TinyConfig.{field} must .*got {value}"):
        replace(TinyConfig(), **{field: value})
