"""AdaptDHM: where the centres are, how they move, and which rows go to which."""

import os

import pytest
import torch
from torch import distributed, multiprocessing

from tests.unit.ranking.surfaces import SCHEMA, rows
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.adapt_dhm import AdaptDhm, AdaptDhmConfig, Clusters


def build(**sizes):
    torch.manual_seed(0)
    return AdaptDhm(SCHEMA, InputConfig(std=0.1), AdaptDhmConfig(**sizes))


def clusters(centers, **sizes):
    found = Clusters(2, AdaptDhmConfig(num_clusters=len(centers), **sizes))
    found.center_CD.copy_(torch.tensor(centers))
    return found


def test_centers_are_saved_and_no_parameters():
    model = build()
    assert "clusters.center_CD" not in dict(model.named_parameters())
    model(*rows(60))
    other = AdaptDhm(SCHEMA, InputConfig(), AdaptDhmConfig())
    other.load_state_dict(model.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(other.eval()(*rows(60)), model.eval()(*rows(60)))


def test_centers_move_in_training_only_and_keep_length_1():
    model = build()
    start = model.clusters.center_CD.clone()
    model.eval()(*rows(60))
    assert torch.equal(model.clusters.center_CD, start)
    model.train()(*rows(60))
    assert not torch.isclose(model.clusters.center_CD, start).all()
    torch.testing.assert_close(model.clusters.center_CD.norm(dim=1), torch.ones(3))


def test_a_round_by_hand():
    found = clusters([[1.0, 0.0]], beta=0.5, num_rounds=1)
    found(torch.tensor([[0.0, 3.0], [0.0, 1.0]]))
    # 0.5 * [1, 0] + 0.5 * [0, 4] = [0.5, 2], divided by its length
    expected = torch.tensor([[0.5, 2.0]]) / 4.25**0.5
    torch.testing.assert_close(found.center_CD, expected)


def test_rows_count_for_the_centers_by_their_shares():
    found = clusters([[1.0, 0.0], [0.0, 1.0]], beta=0.5, num_rounds=1, temperature=0.5)
    row = torch.log(torch.tensor(3.0)) / 2  # over the temperature: log 3 for the first, 0 for other
    found(torch.tensor([[row, 0.0]]))
    # shares 3/4 and 1/4 of a row that points along the first axis
    torch.testing.assert_close(found.center_CD[0], torch.tensor([1.0, 0.0]))
    second = torch.tensor([row / 4, 1.0])
    torch.testing.assert_close(found.center_CD[1], second / second.norm())


def test_a_low_temperature_keeps_the_centers_apart():
    x = torch.tensor([[1.0, 0.1], [0.1, 1.0]]).repeat(20, 1)
    cosines = {}
    for temperature in (1.0, 0.02):
        found = clusters([[0.8, 0.6], [0.6, 0.8]], temperature=temperature)
        for _ in range(20):
            found(x)
        cosines[temperature] = (found.center_CD[0] @ found.center_CD[1]).item()
    assert cosines[1.0] == pytest.approx(1.0, abs=1e-5)
    assert cosines[0.02] < 0.25  # of the two kinds of rows: 0.2 / 1.01


def test_rows_go_by_cluster_and_not_by_scenario():
    model, (sparse, dense, scenario) = build(), rows(60)
    model(sparse, dense, scenario)
    model.eval()
    last = model.layers[-1]
    with torch.no_grad():
        last.shared.weight.zero_()
        last.shared.bias.zero_()
        last.bias_SO.copy_(torch.tensor([[0.0], [1.0], [2.0]]))  # the logit names the cluster
        logit = model(sparse, dense, scenario)
        x = torch.cat([model.inputs(sparse, dense), model.scenario(scenario)], dim=1)
        assert logit.tolist() == (x @ model.clusters.center_CD.T).argmax(1).tolist()
    assert set(logit.tolist()) == {0.0, 1.0, 2.0}
    assert len(set(logit[scenario == 0].tolist())) > 1


def test_of_equal_centers_the_first_counts_whatever_the_rounding():
    found = clusters([[0.6, 0.8], [0.6, 0.8], [0.6, -0.8]]).eval()
    found.center_CD[1, 0] += 1e-7
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 2, generator=generator)
    assert set(found(x).tolist()) == {0, 2}
    assert found(torch.zeros(1, 2)).tolist() == [0]


def test_grouped_and_masked_clusters_agree():
    model = build()
    model(*rows(60))
    model.eval()
    with torch.inference_mode():
        grouped = model(*rows(60))
        model.compat = True
        torch.testing.assert_close(model(*rows(60)), grouped)


def test_the_reference_has_no_dense_inputs_and_no_biases():
    model = build(compat="scenario_wise")
    sparse, dense, scenario = rows(60)
    model(sparse, dense, scenario).sum().backward()
    for layer in model.layers:
        for bias in (layer.shared.bias, layer.bias_SO):
            assert bias.grad is None
            assert not bias.any()
    model.eval()
    torch.testing.assert_close(
        model(sparse, dense, scenario), model(sparse, 1 - dense, scenario), atol=0, rtol=0
    )


def half(rank, port, x, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    found = clusters([[1.0, 0.0], [0.0, 1.0]])
    found(x[rank::2])
    results[rank] = found.center_CD.tolist()
    distributed.destroy_process_group()


def test_ranks_move_the_centers_as_one_process_does():
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    whole = clusters([[1.0, 0.0], [0.0, 1.0]])
    whole(x)
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        port = 20000 + os.getpid() % 20000
        workers = [context.Process(target=half, args=(rank, port, x, results)) for rank in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        for rank in range(2):
            torch.testing.assert_close(torch.tensor(results[rank]), whole.center_CD)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_clusters": 0}, "AdaptDhmConfig.num_clusters must be at least 1, got 0"),
        ({"num_rounds": 0}, "AdaptDhmConfig.num_rounds must be at least 1, got 0"),
        ({"beta": 0.0}, r"AdaptDhmConfig.beta must be in \(0, 1\], got 0.0"),
        ({"temperature": 0}, "AdaptDhmConfig.temperature must be positive, got 0"),
        ({"dropout": 1.0}, r"AdaptDhmConfig.dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        AdaptDhmConfig(**bad)
