"""The user tower in NumPy, as the endpoint runs it for a few users at a time.

For one user, torch spends most of its time outside of arithmetic; this takes a quarter of it.
Histories keep their length, without padding and masks, and the gates of items are looked up. The
equations are those of `two_tower.model.UserTower`.

Suffixes: Q users, H history length, I items, K heads, P = K * D pooled width, F sparse fields,
V ids of all fields, S scenarios, E dense fields, D vector width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor

from winnow.retrieval.evaluation.order import Floats
from winnow.retrieval.two_tower.model import UserTower

Rows = NDArray[np.integer[Any]]

ROOT_2 = float(np.sqrt(2))
SHORTEST = 1e-12
"""Least length that a vector is divided by, as in `torch.nn.functional.normalize`."""


class UserVectors:
    """Encodes users with weights that no longer change; several threads may call it.

    Args:
        history_ID: `tower.history` of every row of the item table.
    """

    @torch.inference_mode()
    def __init__(self, tower: UserTower, history_ID: Tensor) -> None:
        self._history_ID = history_ID.numpy()
        self._gate_IK = tower.gate(history_ID).numpy()
        self._recency_HK = _array(tower.recency_HK)
        self._table_VD = _array(tower.fields.table.weight)
        self._start_F = tower.fields.start_F.numpy()
        self._dense_ED = _array(tower.dense_ED)
        self._scenario_SD = _array(tower.scenario.weight)
        self._skip_PD = _array(tower.skip.weight).T
        first, _, second = tower.mlp
        self._first, self._second = _layer(first), _layer(second)

    def __call__(
        self,
        histories: Sequence[Rows],
        sparse_QF: Rows,
        dense_QE: Floats,
        scenario_Q: Rows,
    ) -> Floats:
        """Unit vectors, float32 [Q, D].

        Args:
            histories: rows of each user's liked items, newest last; items beyond the history length
                of the tower are ignored.
            sparse_QF, dense_QE: encoded user fields in schema order; 0 is unknown.
            scenario_Q: number of the scenario.
        """
        pooled_QP = np.stack([self._pooled(history) for history in histories])
        side_QD = self._table_VD[sparse_QF + self._start_F].sum(axis=1)
        side_QD += self._scenario_SD[scenario_Q]
        if dense_QE.shape[1]:
            side_QD += dense_QE @ self._dense_ED
        (first, first_bias), (second, second_bias) = self._first, self._second
        hidden = np.concatenate([pooled_QP, side_QD], axis=1) @ first + first_bias
        hidden *= 0.5 + 0.5 * erf(hidden / ROOT_2)  # GELU
        out_QD = hidden @ second + second_bias + pooled_QP @ self._skip_PD
        length_Q1 = np.sqrt(np.square(out_QD).sum(axis=1, keepdims=True))
        unit_QD: Floats = out_QD / np.maximum(length_Q1, SHORTEST)
        return unit_QD

    def _pooled(self, history: Rows) -> Floats:
        """The heads' weighted means of the history, side by side: [P]; zeros without history."""
        newest_H = history[-len(self._recency_HK) :]
        length, heads = len(newest_H), self._gate_IK.shape[1]
        if not length:
            return np.zeros(heads * self._history_ID.shape[1], np.float32)
        logits_HK = self._gate_IK[newest_H] + self._recency_HK[-length:]
        weights_HK = np.exp(logits_HK - logits_HK.max(axis=0))
        weights_HK /= weights_HK.sum(axis=0)
        pooled_KD: Floats = weights_HK.T @ self._history_ID[newest_H]
        return pooled_KD.ravel()


def _layer(linear: Any) -> tuple[Floats, Floats]:
    return _array(linear.weight).T, _array(linear.bias)


def _array(weight: Any) -> Floats:
    values: Floats = weight.detach().numpy()
    return values
