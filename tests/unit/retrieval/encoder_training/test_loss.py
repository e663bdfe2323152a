"""InfoNCE, distillation and cached gradients of the text encoder."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import distributed, multiprocessing

from winnow.retrieval.distributed import gather_rows, sum_gradients, summed
from winnow.retrieval.encoder_training.loss import (
    CachedVectors,
    distillation,
    info_nce,
    similarities,
)
from winnow.retrieval.text_encoder.token_lists import TokenLists, token_batches
from winnow.retrieval.toy import make_tiny_encoder

WORDS = ["moon", "sea", "rain", "tide", "harbour", "night", "hill", "road"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return make_tiny_encoder(tmp_path_factory.mktemp("encoder"), WORDS)


def sentences(number, seed=0):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(1, 30))) for _ in range(number)]


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 90))
def test_batches_hold_every_text_once_and_stay_in_the_budget(lengths, most):
    batches = list(token_batches(np.array(lengths, np.int64), most))
    rows = np.concatenate([*batches, np.empty(0, np.int64)])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    for batch in batches:
        longest = max(max(lengths[row] for row in batch), 1)
        assert len(batch) == 1 or len(batch) * longest <= most


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=6))
def test_token_lists_keep_every_text(ids):
    tokens = TokenLists.of(ids)
    padded, real = tokens.padded(np.arange(len(ids)), 0)
    assert [row[mask].tolist() for row, mask in zip(padded, real, strict=True)] == ids
    assert (padded[~real] == 0).all()
    twice = TokenLists.joined([tokens, tokens])
    assert len(twice) == 2 * len(ids)
    taken = twice.take(np.array([len(ids), 0]))
    assert taken.token_T.tolist() == ids[0] + ids[0]


def test_info_nce_by_hand():
    logits = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    counts = torch.tensor([[True, False, True], [False, True, True]])
    loss = info_nce(logits, torch.tensor([1, 0]), counts)
    # -log(e / (e + 2)) and -log(e^2 / (e^2 + 2)): the target counts though it is marked not to
    assert loss.tolist() == pytest.approx([0.5514, 0.2395], abs=1e-4)


def test_columns_that_do_not_count_get_no_gradient():
    logits = torch.zeros(1, 3, requires_grad=True)
    info_nce(logits, torch.tensor([0]), torch.tensor([[True, False, True]])).sum().backward()
    assert logits.grad.tolist() == [[-0.5, 0.0, 0.5]]


def test_a_student_like_its_teacher_has_nothing_to_learn():
    teacher = torch.tensor([[0.9, 0.5, float("nan")]])
    columns = torch.tensor([[2, 0, -1]])
    student = torch.zeros(1, 3)
    student[0, 2], student[0, 0] = 0.9 / 0.1, 0.5 / 0.1
    assert distillation(student, columns, teacher, 0.1).item() == pytest.approx(0, abs=1e-6)
    assert distillation(-student, columns, teacher, 0.1).item() > 1
    alone = torch.tensor([[0.9, float("nan"), float("nan")]])
    assert distillation(-student, columns, alone, 0.1).item() == 0


def gradients(encoder, tokens, **sizes):
    """Loss and gradients of the weights of one batch, texts in chunks of that many tokens."""
    torch.manual_seed(3)
    encoder.model.train()
    encoder.model.zero_grad()
    rows = np.arange(len(tokens))
    cached = CachedVectors(encoder, tokens, rows, **sizes)
    half = len(tokens) // 2
    logits = similarities(cached.vectors[:half], cached.vectors[half:], 0.05)
    loss = info_nce(logits, torch.arange(half), torch.ones_like(logits, dtype=torch.bool)).mean()
    loss.backward()
    cached.backward()
    encoder.model.eval()
    return loss.item(), {
        n: p.grad.clone() for n, p in encoder.model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("memory", [0, 90, 10_000])
def test_the_gradient_is_the_same_whatever_is_kept_in_memory(encoder, memory):
    tokens = encoder.tokens(sentences(12), "document")
    for module in encoder.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    loss, whole = gradients(encoder, tokens, chunk_tokens=10_000, memory_tokens=10_000)
    again, parts = gradients(encoder, tokens, chunk_tokens=64, memory_tokens=memory)
    assert again == pytest.approx(loss, rel=1e-5)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-5)


def test_dropout_hides_the_same_values_in_both_passes(encoder):
    tokens = encoder.tokens(sentences(12), "document")
    for module in encoder.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    kept = gradients(encoder, tokens, chunk_tokens=64, memory_tokens=10_000)
    recomputed = gradients(encoder, tokens, chunk_tokens=64, memory_tokens=0)
    assert kept[0] == recomputed[0]
    for name, gradient in kept[1].items():
        torch.testing.assert_close(recomputed[1][name], gradient)


def test_backward_needs_a_gradient(encoder):
    cached = CachedVectors(
        encoder, encoder.tokens(["sea"], "query"), np.arange(1), chunk_tokens=8, memory_tokens=8
    )
    with pytest.raises(AssertionError, match="call backward"):
        cached.backward()


def on_two(rank, port, query, text, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    layer = torch.nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
    mine = slice(rank * 3, rank * 3 + 3)
    logits = similarities(layer(query[mine]), gather_rows(layer(text[mine])), 0.5)
    target = torch.arange(3) + rank * 3
    loss = info_nce(logits, target, torch.ones_like(logits, dtype=torch.bool)).sum() / 6
    loss.backward()
    sum_gradients(layer)
    results[rank] = (loss.item(), layer.weight.grad.tolist())
    distributed.destroy_process_group()


def test_two_processes_give_loss_and_gradient_of_one():
    torch.manual_seed(0)
    query, text = torch.randn(6, 4), torch.randn(6, 4)
    layer = torch.nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
    logits = similarities(layer(query), layer(text), 0.5)
    whole = info_nce(logits, torch.arange(6), torch.ones_like(logits, dtype=torch.bool)).mean()
    whole.backward()
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        port = 21000 + os.getpid() % 20000
        workers = [
            context.Process(target=on_two, args=(rank, port, query, text, results))
            for rank in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        (loss_0, gradient_0), (loss_1, gradient_1) = results[0], results[1]
    assert loss_0 + loss_1 == pytest.approx(whole.item(), rel=1e-6)
    assert gradient_0 == gradient_1
    torch.testing.assert_close(torch.tensor(gradient_0), layer.weight.grad)


def test_a_sum_is_made_where_the_value_is(monkeypatch):
    """NCCL sums on GPUs alone; what is on the device `meta` cannot be moved to another."""
    summed_on = []
    monkeypatch.setattr("winnow.retrieval.distributed.rank_and_world", lambda: (0, 2))
    monkeypatch.setattr(distributed, "all_reduce", lambda value: summed_on.append(value.device))
    assert summed(torch.ones((), device="meta")).device == torch.device("meta")
    assert summed_on == [torch.device("meta")]


@pytest.mark.parametrize("memory", [0, 64, 200, 10_000])
def test_no_more_tokens_are_kept_than_memory_allows(encoder, memory):
    tokens = encoder.tokens(sentences(12), "document")
    cached = CachedVectors(encoder, tokens, np.arange(12), chunk_tokens=64, memory_tokens=memory)
    assert cached.kept_tokens <= memory
    assert (cached.kept_tokens > 0) == (memory >= 64)
