"""Sampled softmax of the two towers, against values computed by hand."""

import math
import os

import pytest
import torch
from torch import distributed, multiprocessing

from winnow.retrieval.distributed import gather_rows
from winnow.retrieval.two_tower.loss import known_positives, sampled_softmax


def loss_of(user, item, **changes):
    default = {
        "log_q_C": torch.zeros(len(item)),
        "known_BC": torch.zeros(len(user), len(item), dtype=torch.bool),
        "temperature": 1.0,
    }
    return sampled_softmax(user, item, **(default | changes))


def test_loss_by_hand():
    # one user, scores 1 and 0: -log(e / (e + 1))
    loss = loss_of(torch.tensor([[1.0, 0.0]]), torch.eye(2))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)))


def test_log_q_lifts_rare_items():
    # equal scores; the other item is sampled 3 times as often, so it weighs a third: 1 / (1 + 1/3)
    log_q = torch.log(torch.tensor([0.25, 0.75]))
    loss = loss_of(torch.ones(1, 2), torch.ones(2, 2), log_q_C=log_q)
    assert loss.item() == pytest.approx(-math.log(3 / 4))


def test_known_positives_are_no_negatives_but_the_target_stays():
    loss = loss_of(torch.ones(1, 2), torch.ones(3, 2), known_BC=torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx(math.log(2))


def test_a_hard_negative_competes_with_its_own_user_only():
    user, item = torch.eye(2), torch.eye(2)
    hard = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    has_hard = torch.tensor([[True], [False]])
    loss = loss_of(user, item, hard_BGD=hard, has_hard_BG=has_hard)
    e = math.e
    # user 0: scores 1 (positive), 0 and 1 (hard); user 1: 1 and 0
    assert loss.item() == pytest.approx(
        (-math.log(e / (2 * e + 1)) - math.log(e / (e + 1))) / 2, rel=1e-6
    )


def test_a_hard_negative_shares_the_log_q_of_its_positive():
    # positive and hard negative score alike and nothing else counts: one in two, whatever log q
    loss = loss_of(
        torch.ones(1, 2),
        torch.ones(1, 2),
        log_q_C=torch.tensor([-5.0]),
        hard_BGD=torch.ones(1, 1, 2),
        has_hard_BG=torch.ones(1, 1, dtype=torch.bool),
    )
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


def test_known_positives_of_batch_and_history():
    known = known_positives(
        user_B=torch.tensor([8, 9]),
        history_BH=torch.tensor([[-1, 5], [7, 99]]),
        user_C=torch.tensor([7, 8, 9, 8]),
        item_C=torch.tensor([5, 6, 6, 7]),
    )
    # user 8 likes 6 and 7 in the batch and 5 before; user 9 likes 6 and, before, 7
    assert known.tolist() == [[True, True, True, True], [False, True, True, True]]


def grouped(rank, port, user, item, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    user, item = user[rank * 3 :][:3].clone(), item[rank * 3 :][:3].clone().requires_grad_()
    loss = sampled_softmax(
        user,
        gather_rows(item),
        log_q_C=torch.zeros(6),
        known_BC=torch.zeros(3, 6, dtype=torch.bool),
        temperature=0.5,
        offset=rank * 3,
    )
    loss.backward()
    results[rank] = (loss.item(), item.grad.tolist())
    distributed.destroy_process_group()


def test_two_halves_with_gathered_items_give_loss_and_gradient_of_one_batch():
    torch.manual_seed(0)
    user, item = torch.randn(6, 4), torch.randn(6, 4, requires_grad=True)
    whole = loss_of(user, item, temperature=0.5)
    whole.backward()
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        port = 20000 + os.getpid() % 20000
        workers = [
            context.Process(target=grouped, args=(rank, port, user, item.detach(), results))
            for rank in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        (loss_0, gradient_0), (loss_1, gradient_1) = results[0], results[1]
    assert (loss_0 + loss_1) / 2 == pytest.approx(whole.item(), rel=1e-6)
    # data parallel training averages over the processes
    torch.testing.assert_close(torch.tensor(gradient_0 + gradient_1) / 2, item.grad)
