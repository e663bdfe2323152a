"""What is known of a model before any engine starts: its chat template and its context."""

import pytest
from tokenizers import Tokenizer as Fast, models, pre_tokenizers
from transformers import GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from winnow.errors import GenerationError
from winnow.llm.models.context import context_of
from winnow.llm.models.find import LanguageModel, answering_at, check_loadable, pinned

TURNS = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
REFUSES = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
)
ALTERNATES = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% endfor %}"
)
DROPS = TURNS.replace("%}[{{", "%}{% if m['role'] != 'system' %}[{{", 1).replace(
    "{% endfor", "{% endif %}{% endfor", 1
)
MESSAGES = [
    {"role": "system", "content": "You choose gifts."},
    {"role": "user", "content": "For a cook?"},
]


def model(folder, template, config=None):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Fast(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")
    tokens.chat_template = template
    tokens.save_pretrained(folder)
    (config or LlamaConfig(max_position_embeddings=2048)).save_pretrained(folder)
    return str(folder)


def test_a_template_with_a_system_role_is_used_as_it_is(tmp_path):
    text = check_loadable(model(tmp_path, TURNS)).render(MESSAGES)
    assert text == "[system]You choose gifts.[user]For a cook?[assistant]"


@pytest.mark.parametrize("template", [REFUSES + TURNS, ALTERNATES + TURNS, DROPS])
def test_a_template_without_a_system_role_gets_its_text_in_the_first_turn(tmp_path, template):
    text = check_loadable(model(tmp_path, template)).render(MESSAGES)
    assert text == "[user]You choose gifts.\n\nFor a cook?[assistant]"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template; name a chat model, or put .* chat_template.jinja"),
        ("{{ raise_exception('no chats') }}", "its chat template fails: no chats"),
        ("{{ messages[0].content + 1 }}", "its chat template fails: "),
        ("hello", "its chat template leaves out what the messages say"),
    ],
)
def test_a_model_that_shows_no_prompt_is_refused_in_a_sentence(tmp_path, template, message):
    with pytest.raises(GenerationError, match=message) as caught:
        check_loadable(model(tmp_path, template))
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_a_broken_tokenizer_is_refused_in_a_sentence(tmp_path):
    model(tmp_path, TURNS)
    (tmp_path / "tokenizer.json").write_text('{"model": 7}')
    with pytest.raises(GenerationError, match="cannot be used: "):
        check_loadable(str(tmp_path))


@pytest.mark.parametrize(
    ("address", "served", "digest"),
    [
        ("http://a:8000/v1/", "", "m at http://a:8000/v1"),
        ("http://b:8000/v1", "", "m at http://b:8000/v1"),
        ("https://user:secret@a/v1?key=secret#secret", "x", "m at https://a/v1 as x"),
        ("Ray Serve application default", "x", "m at Ray Serve application default as x"),
    ],
)
def test_an_endpoint_is_part_of_a_models_identity_without_its_secrets(address, served, digest):
    assert answering_at(LanguageModel("m", "m"), address, served).digest == digest


def test_an_id_stands_for_the_commit_whose_files_it_names(tmp_path, monkeypatch):
    file = tmp_path / "snapshots" / "0a1b2c" / "config.json"
    asked = []

    def download(name, file_name, revision):
        asked.append((name, revision))
        if name == "org/gone":
            raise OSError("no network")
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    for name in ("org/model", "org/model@main"):
        model = pinned(LanguageModel(name, name))
        assert (model.source, model.digest) == ("org/model@0a1b2c", "org/model@0a1b2c")
    assert asked == [("org/model", None), ("org/model", "main")]
    gone = LanguageModel("org/gone", "org/gone")
    assert pinned(gone) == gone
    folder = LanguageModel(str(tmp_path), "digest")
    assert pinned(folder) == folder


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 512,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (LlamaConfig(max_position_embeddings=2048), 2048),
        (GPT2Config(n_positions=512), 512),
        (LlamaConfig(max_position_embeddings=4096, rope_parameters=YARN), 4096),
        (LlamaConfig(max_position_embeddings=4096, rope_parameters=LLAMA3), 4096),
        (
            LlamaConfig(
                max_position_embeddings=1024, rope_parameters={"rope_type": "linear", "factor": 2.0}
            ),
            2048,
        ),
    ],
)
def test_the_context_of_a_model(tmp_path, config, tokens):
    assert context_of(model(tmp_path, TURNS, config)) == tokens


def test_the_context_of_an_unknown_architecture_is_left_to_the_engine(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "brand_new"}')
    assert context_of(str(tmp_path)) == 0
