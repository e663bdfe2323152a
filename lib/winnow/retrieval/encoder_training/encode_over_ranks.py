"""Encoding a whole collection with all ranks of a training run.

Suffixes: N texts, D vector width.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from winnow.retrieval.distributed import rank_and_world
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.token_lists import TokenLists


def encode_together(encoder: TextEncoder, tokens: TokenLists) -> NDArray[np.float32]:
    """Vectors of tokenised texts, float32 [N, D], on every rank; each encodes an equal part.

    All ranks must call it with the same texts.

    Raises:
        NonFiniteVectorError: a vector is not finite; every rank raises it, so none waits for
            another.
    """
    rank, world_size = rank_and_world()
    if world_size == 1:
        return encoder.encode_tokens(tokens)
    share = -(-len(tokens) // world_size)
    order_N = np.argsort(-tokens.length_N, kind="stable")  # every rank gets long and short texts
    mine = order_N[rank::world_size]
    vectors = np.zeros((share, encoder.dim), np.float32)
    vectors[: len(mine)] = encoder.unchecked_vectors(tokens.take(mine))
    device = next(encoder.model.parameters()).device
    sent = torch.from_numpy(vectors).to(device)
    parts = [torch.empty_like(sent) for _ in range(world_size)]
    distributed.all_gather(parts, sent)
    all_ND = np.empty((len(tokens), encoder.dim), np.float32)
    for other, part in enumerate(parts):
        rows = order_N[other::world_size]
        all_ND[rows] = part.cpu().numpy()[: len(rows)]
    encoder.check_finite(all_ND, tokens)
    return all_ND
