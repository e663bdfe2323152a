import json

import pytest
import torch
from gguf import GGMLQuantizationType
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.llm.models.gguf_files import TEMPLATE, random_model, tokenizer, write_gguf
from winnow.errors import GenerationError
from winnow.llm.models import from_gguf
from winnow.llm.models.context import context_of
from winnow.llm.models.from_gguf import convert_gguf

TEXT = "the other the"


def converted(model, tmp_path, **how):
    write_gguf(model, tmp_path / "model.gguf", **how)
    folder = tmp_path / "model"
    folder.mkdir()
    return folder, convert_gguf(tmp_path / "model.gguf", folder)


def logits(model):
    ids = torch.tensor([tokenizer().encode(TEXT * 5).ids])
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_converted_model_computes_what_the_original_does(tmp_path, kind, tied):
    model = random_model(kind, tied=tied)
    folder, facts = converted(model, tmp_path)
    assert facts["architecture"] == kind
    assert facts["licence_in_file"] == "apache-2.0"
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    torch.testing.assert_close(logits(again), logits(model), rtol=1e-4, atol=1e-4)
    assert again.config.tie_word_embeddings == tied
    assert context_of(str(folder)) == 512


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q8_0, GGMLQuantizationType.F16])
def test_quantised_weights_are_near_the_original(tmp_path, kind):
    model = random_model("llama")
    folder, facts = converted(model, tmp_path, quantised=kind)
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert facts["quantised"] == sorted({kind.name, "F32"})
    one, other = logits(again), logits(model)
    assert torch.cosine_similarity(one, other, dim=-1).min() > 0.999


def test_tokenizer_and_template_are_those_of_the_file(tmp_path):
    folder, _ = converted(random_model("llama"), tmp_path)
    loaded, expected = AutoTokenizer.from_pretrained(folder), tokenizer()
    for text in (TEXT, "naïve 漢字", "<|im_start|>user"):
        assert loaded(text)["input_ids"] == expected.encode(text).ids
    assert loaded.eos_token == "<|im_end|>"
    assert loaded.chat_template == TEMPLATE
    turns = [{"role": "user", "content": "the"}]
    assert loaded.apply_chat_template(turns, tokenize=False) == "<|im_start|>user the<|im_end|>"
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2


def test_large_weights_are_written_in_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(from_gguf, "SHARD_BYTES", 20_000)
    model = random_model("qwen2")
    folder, _ = converted(model, tmp_path)
    assert len(list(folder.glob("*.safetensors"))) > 3
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.bfloat16())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"leave_out": ["head_count"]}, "no field llama.attention.head_count"),
        ({"extra": ["rope_freqs.weight"]}, "scales its rotary positions"),
        ({"extra": ["blk.0.ffn_gate_inp.weight"]}, "ffn_gate_inp.weight', which these models"),
    ],
)
def test_what_cannot_be_converted_is_refused(tmp_path, how, message):
    with pytest.raises(GenerationError, match=message):
        converted(random_model("llama"), tmp_path, **how)


def test_another_architecture_is_refused(tmp_path):
    model = random_model("llama")
    model.config.model_type = "gemma3"
    with pytest.raises(GenerationError, match="holds a 'gemma3' model; llama and qwen2"):
        converted(model, tmp_path)


@pytest.mark.parametrize("cut", [0, 3, 8, 40, 3000, -1])
def test_a_file_that_is_cut_short_is_no_gguf_file(tmp_path, cut):
    write_gguf(random_model("llama"), tmp_path / "whole.gguf")
    short = tmp_path / "short.gguf"
    short.write_bytes((tmp_path / "whole.gguf").read_bytes()[:cut])
    with pytest.raises(GenerationError, match=r"short.gguf is not a whole GGUF file"):
        convert_gguf(short, tmp_path)
