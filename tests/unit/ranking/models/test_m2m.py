"""M2M: attention among the fields of one row, and layers whose weights the scenario makes."""

import pytest
import torch
from torch.nn import functional

from tests.unit.ranking.surfaces import SCHEMA, rows
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.m2m import M2M, Attention, M2MConfig, MetaLayers, Transformer, _Read


def build(inputs=None, **sizes):
    torch.manual_seed(0)
    return M2M(SCHEMA, inputs or InputConfig(std=0.1), M2MConfig(**sizes))


def test_fields_and_scenario_are_the_tokens():
    model, batch = build(), rows(5)
    seen = []
    model.transformer.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    model(*batch)
    assert seen[0].shape == (5, 3, 16)
    torch.testing.assert_close(seen[0][:, :2], model.inputs.fields(batch[0]))
    torch.testing.assert_close(seen[0][:, 2], model.scenario(batch[2]))


def test_rows_do_not_attend_to_each_other():
    torch.manual_seed(0)
    transformer = Transformer(16, M2MConfig(transformer_dropout=0.0))  # in training as in use
    token = torch.randn(6, 3, 16, requires_grad=True)
    transformer(token)[2].square().sum().backward()
    changed = token.grad.abs().sum(dim=(1, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("num_tokens", [1, 5])
def test_attention_is_scaled_dot_product_attention(num_tokens):
    torch.manual_seed(0)
    attention = Attention(8, 2)
    token, other = torch.randn(num_tokens, 3, 8), torch.randn(4, 3, 8)
    key, value = attention.key_value.weight.chunk(2)

    def heads(weight, x_TBK):
        return (x_TBK @ weight.T).unflatten(2, (2, 4)).permute(1, 2, 0, 3)  # [B, H, T, P]

    for source in (other, token):
        read = functional.scaled_dot_product_attention(
            heads(attention.query.weight, token), heads(key, source), heads(value, source)
        )
        expected = attention.out(read.permute(2, 0, 1, 3).flatten(2))
        torch.testing.assert_close(attention(token, source), expected)


def test_attention_has_the_gradients_of_scaled_dot_product_attention():
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(2, 4, tokens, 3, requires_grad=True) for tokens in (5, 7, 7)
    )  # [H, P, T, B]
    weight = torch.randn(2, 4, 5, 3)
    rows = [x.permute(3, 0, 2, 1) for x in (query, key, value)]  # [B, H, T, P]
    expected = functional.scaled_dot_product_attention(*rows, scale=1.0).permute(1, 3, 2, 0)
    found = _Read.apply(query, key, value)
    torch.testing.assert_close(found, expected)
    inputs = (query, key, value)
    for mine, theirs in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_the_transformer_is_that_of_torch_without_biases_and_last_norms():
    torch.manual_seed(0)
    ours = Transformer(8, M2MConfig(num_heads=2, num_encoders=1, num_decoders=1)).eval()
    torch_encoder = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    torch_decoder = torch.nn.TransformerDecoderLayer(8, 2, 16, batch_first=True).eval()

    def copy_attention(to, of):
        weights = [of.query.weight, of.key_value.weight]
        to.in_proj_weight.copy_(torch.cat(weights))
        to.out_proj.weight.copy_(of.out.weight)  # biases of both start at 0

    with torch.no_grad():
        for to, of in ((torch_encoder, ours.encoders[0]), (torch_decoder, ours.decoders[0])):
            copy_attention(to.self_attn, of.attend.attention)
            to.linear1.load_state_dict(of.refine.network[0].state_dict())
            to.linear2.load_state_dict(of.refine.network[2].state_dict())
        copy_attention(torch_decoder.multihead_attn, ours.decoders[0].recall.attention)
        token = torch.randn(3, 4, 8)
        torch.testing.assert_close(ours(token), torch_decoder(token, torch_encoder(token)))


def test_meta_layers_by_formula():
    torch.manual_seed(0)
    meta, scenario, expert = MetaLayers(3, 2), torch.randn(3), torch.randn(5, 4, 2)
    view = functional.leaky_relu(meta.scenario_view(scenario), 0.1)
    task = functional.leaky_relu(meta.task_view(scenario), 0.1)
    both = torch.cat([expert, task.expand(5, 4, 2)], dim=2)  # [E | t]
    hidden = both @ meta.attention.weight(view).view(4, 4) + meta.attention.bias(view)
    alpha = meta.score(functional.leaky_relu(hidden, 0.1)).softmax(1)
    r = (alpha * expert).sum(1)
    out = r @ meta.tower.weight(view).view(2, 2) + meta.tower.bias(view) + r
    torch.testing.assert_close(meta(scenario, expert), functional.leaky_relu(out, 0.1))


def test_dense_fields_count_but_not_in_the_reference():
    sparse, dense, scenario = rows(20)
    for compat, equal in (("none", False), ("scenario_wise", True)):
        model = build(compat=compat).eval()
        logits = [model(sparse, values, scenario) for values in (dense, 1 - dense)]
        assert torch.equal(*logits) == equal


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_heads": 0}, "M2MConfig.num_heads must be at least 1, got 0"),
        ({"num_decoders": 0}, "M2MConfig.num_decoders must be at least 1, got 0"),
        ({"expert": 0}, "M2MConfig.expert must be at least 1, got 0"),
        ({"transformer_dropout": 1.0}, r"M2MConfig.transformer_dropout .* \[0, 1\), got 1.0"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        M2MConfig(**bad)


def test_heads_must_divide_the_embedding():
    with pytest.raises(ValueError, match=r"num_heads must divide InputConfig\.dim, got 4 and 6"):
        build(InputConfig(dim=6))
