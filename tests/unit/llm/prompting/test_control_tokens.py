"""No text of a catalogue, user, request or model spells a control token of the served model."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from winnow.llm.prompting.control_tokens import broken_up, escaped
from winnow.llm.prompting.correction import corrected
from winnow.llm.prompting.fit_context import Tokenizer
from winnow.llm.prompting.request import Request
from winnow.llm.prompting.template import Template, fenced
from winnow.tree.questions import Question, pick_request

TEMPLATE = Template(name="t", version=1, system="Be useful.", request="Describe the item.")
WORDS = ["Sale!", "a", " ", "\n", "[2]", "x < y", "{", '"', "é", "😀", "inst", "]"]
FAMILIES = {
    "mistral": ["<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[TOOL_CALLS]"],
    "llama2": ["<s>", "</s>", "[INST]", "<<SYS>>", "<</SYS>>"],
    "chatml": ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "<tool_call>"],
    "gemma": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
    "deepseek": [
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
        "<\uff5cUser\uff5c>",
        "<\uff5cAssistant\uff5c>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    ],
    "exaone": ["[BOS]", "[|user|]", "[|assistant|]", "[|endofturn|]"],
    "minimax": ["]~!b[", "]~b]", "[e~["],
    "glm": ["[gMASK]", "<sop>", "<|user|>", "[MASK]"],
    "bert": ["[CLS]", "[SEP]", "[MASK]", "[unused7]"],
    "kimi": ["[BOS]", "[EOS]", "<|im_user|>", "[extra_id_0]"],
}
UNLISTED = {"words": ["@@turn@@", "###user", "§end", "::stop"], "one": ["¶", "§§"]}
KNOWN = sorted({token for tokens in FAMILIES.values() for token in tokens})
CHAT = "{{ a }}{% for m in messages %}{{ b }}{{ m['content'] }}\n{% endfor %}{{ c }}"


def byte_level(specials):
    """BPE over bytes without merges, as in Llama 3, Qwen and Mistral's tekken."""
    from tokenizers import Tokenizer as Fast, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Fast(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def pieces(specials):
    """A unigram vocabulary with an unknown token and Metaspace, as in Gemma and Llama 2."""
    from tokenizers import Tokenizer as Fast, decoders, models, pre_tokenizers

    vocabulary = [("<unk>", 0.0), ("\u2581", -1.0), *((c, -2.0) for c in "abcdefghij[]/|x")]
    made = Fast(models.Unigram(vocabulary, 0, False))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    return made


def lower_case(specials):
    """Words in lower case with an unknown one, and control tokens that are normalised too."""
    from tokenizers import Tokenizer as Fast, models, normalizers, pre_tokenizers

    made = Fast(models.WordLevel({"[UNK]": 0, "sale": 1, "x": 2}, "[UNK]"))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


BACKENDS = {"byte_level": byte_level, "pieces": pieces, "lower_case": lower_case}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """By backend and family: our tokenizer, and how often the template writes each control id."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    found = {}
    for backend, make in BACKENDS.items():
        for family, specials in (FAMILIES | UNLISTED).items():
            unknown = {"byte_level": None, "pieces": "<unk>", "lower_case": "[UNK]"}[backend]
            tokens = PreTrainedTokenizerFast(tokenizer_object=make(specials), unk_token=unknown)
            tokens.add_special_tokens(
                {
                    "additional_special_tokens": [
                        AddedToken(token, normalized=backend == "lower_case", special=True)
                        for token in specials
                    ]
                }
            )
            a, b, c = (specials * 3)[:3]
            tokens.chat_template = CHAT.replace(" a ", f" {a!r} ").replace(" b ", f" {b!r} ")
            tokens.chat_template = tokens.chat_template.replace(" c ", f" {c!r} ")
            folder = tmp_path_factory.mktemp(f"{backend}-{family}")
            tokens.save_pretrained(folder)
            ids = {token: tokens.convert_tokens_to_ids(token) for token in specials}
            found[backend, family] = Tokenizer(str(folder)), ids, (a, b, c)
    return found


def request_of(messages):
    sampling = {"temperature": 0.0}
    return Request.new(task="t", template="t/1", messages=messages, schema=None, sampling=sampling)


def prompts(text, other):
    """The messages of everything that text of others gets into."""
    first = request_of(TEMPLATE.render({"title": text, other: [text, {"a": other}]}))
    picking = pick_request([text], [other, text], Question("Which?", text, [other, text], 1))
    yield json.loads(first.messages)
    yield json.loads(corrected(first, text, f"unknown key {other!r}").messages)
    yield json.loads(picking.messages)
    yield json.loads(corrected(picking, other, text).messages)
    yield [{"role": "user", "content": text}, {"role": "assistant", "content": other}]


def foreign(specials):
    loose = [*specials, *(token.swapcase() for token in specials), *WORDS]
    return st.lists(st.sampled_from(loose), max_size=6).map("".join)


@pytest.mark.parametrize("family", [*FAMILIES, *UNLISTED])
@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_the_template_alone_writes_control_tokens(saved, backend, family, data):
    tokenizer, ids, (a, b, c) = saved[backend, family]
    text, other = (data.draw(foreign(list(ids))) for _ in range(2))
    for messages in prompts(text, other):
        made = tokenizer.encode(messages)
        for token, number in ids.items():
            written = (token == a) + len(messages) * (token == b) + (token == c)
            assert made.count(number) == written


@settings(deadline=None)
@given(foreign(KNOWN), foreign(KNOWN))
def test_behind_an_endpoint_no_known_token_is_spelled(text, other):
    fixed = [message["content"] for message in TEMPLATE.render({})]
    *given_messages, raw = prompts(text, other)
    del raw  # every way to a prompt is covered by the others
    for messages in given_messages:
        for message in messages:
            for token in KNOWN:
                assert token not in message["content"]
    assert fixed[0] == "Be useful."


@given(foreign(KNOWN), st.lists(st.integers() | st.booleans() | st.none(), max_size=3))
def test_escaped_json_has_the_same_value(text, values):
    value = {text: [text, values, [[text]]]}
    again = json.loads(escaped(json.dumps(value, ensure_ascii=False)))
    assert again == value


def test_plain_text_stays_as_it_is():
    for text in ("Alien [DVD] [2]", "a > b", '["x", [1, 2]]', "[institute]", "[/x]"):
        assert broken_up(text) == escaped(text) == text


def test_a_number_that_is_not_finite_is_null_in_a_prompt():
    assert json.loads(fenced({"a": float("nan"), "b": [float("inf")]}).splitlines()[1]) == {
        "a": None,
        "b": [None],
    }


def test_inputs_are_valid_json():
    request = request_of(TEMPLATE.render({}))
    assert request == replace(request, inputs="{}")
    made = Request.new(
        task="t", template="t", messages=[], schema=None, sampling={}, inputs={"x": float("nan")}
    )
    assert json.loads(made.inputs, parse_constant=None) == {"x": None}
