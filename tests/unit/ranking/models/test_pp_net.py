"""PPNet: which fields are ids, and which embeddings the gates and the towers train."""

import pytest
import torch

from winnow.data.schema import DatasetSchema, Field
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.pp_net import PpNet, PpNetConfig

USER = Field(name="user", role="user", kind="sparse", size=5)
ITEM = Field(name="item", role="item", kind="sparse", size=7)
GENDER = Field(name="gender", role="user", kind="sparse", size=3)
HOUR = Field(name="hour", role="context", kind="sparse", size=4)
AGE = Field(name="age", role="user", kind="dense")


def schema(*fields):
    return DatasetSchema(name="shop", fields=fields, scenarios=("home", "search", "cart"))


SCHEMA = schema(HOUR, USER, AGE, GENDER, ITEM)


def build(of=SCHEMA, **sizes):
    torch.manual_seed(0)
    return PpNet(of, InputConfig(dim=2, std=0.5), PpNetConfig(**sizes))


def rows(count):
    generator = torch.Generator().manual_seed(1)
    sparse = torch.randint(3, (count, 4), generator=generator, dtype=torch.int32)
    scenario = torch.randint(3, (count,), generator=generator)
    return sparse, torch.rand(count, 1, generator=generator), scenario


def trained_fields(model):
    """Names of the fields whose embeddings have a gradient."""
    names = SCHEMA.select("sparse")
    gradients = model.inputs.table.weight.grad.split(SCHEMA.sizes(names))
    return {name for name, grad in zip(names, gradients, strict=True) if grad.any()}


def test_the_first_sparse_field_of_user_and_item_are_the_ids():
    assert SCHEMA.id_fields() == ["user", "item"]
    assert schema(AGE, GENDER, USER).id_fields() == ["gender"]
    # hour, user, gender and item, two features each, then age
    expected = [False] * 2 + [True] * 2 + [False] * 2 + [True] * 2 + [False]
    assert build().id_D.tolist() == expected


def test_one_id_is_enough_and_none_is_an_error():
    assert build(schema(HOUR, ITEM)).id_D.tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match=r"sparse field of role user or item.* 'shop' has none"):
        build(schema(HOUR, AGE))


def test_all_embeddings_are_trained():
    model = build()
    model(*rows(60)).square().sum().backward()
    assert trained_fields(model) == {"hour", "user", "gender", "item"}


def test_the_gates_train_the_ids_only():
    model, gates = build(), []
    for tower in model.towers:
        for gate in tower.gates:
            gate.register_forward_hook(lambda module, args, out: gates.append(out.sum()))
    model(*rows(60))
    sum(gates).backward()
    assert trained_fields(model) == {"user", "item"}


def test_open_gates_leave_the_layers():
    model, batch = build(), rows(60)
    for tower in model.towers:
        for gate in tower.gates:
            torch.nn.init.zeros_(gate.layers[2].weight)
            torch.nn.init.zeros_(gate.layers[2].bias)  # 2 * sigmoid(0) = 1
    model.eval()
    x, scenario = model.inputs(*batch[:2]), batch[2]
    towers = [torch.nn.Sequential(*tower.layers, tower.head) for tower in model.towers]
    expected = torch.cat([tower(x) for tower in towers], dim=1)[torch.arange(60), scenario]
    torch.testing.assert_close(model(*batch), expected)


def test_the_reference_trains_no_embedding_but_those_of_the_ids():
    model = build(compat="scenario_wise")
    model(*rows(60)).square().sum().backward()
    assert trained_fields(model) == {"user", "item"}
    assert model.scenario.weight.grad is None


def test_no_widths_is_an_error():
    with pytest.raises(ValueError, match=r"PpNetConfig.hidden must name at least one width"):
        PpNetConfig(hidden=())
