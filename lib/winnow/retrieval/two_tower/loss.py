"""The loss of the two towers: sampled softmax over the batch, with LLM negatives mixed in.

Shape suffixes:
    B  pairs of this rank    C  pairs of the global batch, all ranks' B one after another
    G  LLM negatives that belong to one pair    D  vector width    H  history length
    U  distinct users of the batch    V  distinct items of the batch

Papers: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations",
RecSys 2019 (the logQ term); Li et al., "SyNeg", arXiv 2412.17250 (each instance mixes LLM
negatives with others).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

HIDDEN = -1e4
"""Logit of a column that does not count: finite, or its gradient would be NaN instead of 0."""


def sampled_softmax(
    user_BD: Tensor,
    item_CD: Tensor,
    *,
    log_q_C: Tensor,
    known_BC: Tensor,
    temperature: float,
    offset: int = 0,
    hard_BGD: Tensor | None = None,
    has_hard_BG: Tensor | None = None,
) -> Tensor:
    """Cross entropy of each user's positive against the batch's items and its own hard negatives.

    User b's positive is column `offset + b`. `log_q_C` is the log of each item's share of the
    training pairs: how often it serves as a negative. A hard negative competes for its own user
    alone. It gets the log q of that user's positive, for which it was made, so the correction
    cannot decide between the two.

    Use when the catalogue is too large for a softmax over all items. `known_BC` (see
    `known_positives`) takes out columns that are not negatives; the target always stays.

    Returns:
        Scalar in nats, mean over B.
    """
    target_B = torch.arange(offset, offset + len(user_BD), device=user_BD.device)
    logits_BC = user_BD @ item_CD.T / temperature - log_q_C
    hidden_BC = known_BC.scatter(1, target_B[:, None], False)
    logits_BC = logits_BC.masked_fill(hidden_BC, HIDDEN)
    if hard_BGD is None or has_hard_BG is None or not hard_BGD.shape[1]:
        return F.cross_entropy(logits_BC, target_B)
    hard_BG = (hard_BGD @ user_BD[:, :, None]).squeeze(2) / temperature
    hard_BG = (hard_BG - log_q_C[target_B, None]).masked_fill(~has_hard_BG, HIDDEN)
    return F.cross_entropy(torch.cat([logits_BC, hard_BG], dim=1), target_B)


def known_positives(user_B: Tensor, history_BH: Tensor, user_C: Tensor, item_C: Tensor) -> Tensor:
    """Columns that the row's user is known to like, from the batch's pairs and the row's history.

    Every row's user and item must be among the columns. Memory: U * V bytes.

    Returns:
        bool [B, C], true at the row's own target too.

    Example:
        >>> known_positives(torch.tensor([7]), torch.tensor([[-1, 3]]),
        ...                 torch.tensor([7, 8, 7, 9]), torch.tensor([1, 2, 4, 3]))
        tensor([[ True, False,  True,  True]])
    """
    users_U, user_at_C = torch.unique(user_C, return_inverse=True)
    items_V, item_at_C = torch.unique(item_C, return_inverse=True)
    # One more column takes the history items that the batch does not hold.
    liked_UV = torch.zeros(len(users_U), len(items_V) + 1, dtype=torch.bool, device=user_B.device)
    liked_UV[user_at_C, item_at_C] = True
    liked_BV = liked_UV[torch.searchsorted(users_U, user_B)]
    at_BH = torch.searchsorted(items_V, history_BH).clamp(max=len(items_V) - 1)
    at_BH = torch.where(items_V[at_BH] == history_BH, at_BH, len(items_V))
    return liked_BV.scatter(1, at_BH, True)[:, item_at_C]
