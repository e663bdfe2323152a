"""Encoding a whole collection with all processes of a training run."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from winnow.retrieval.distributed import rank_and_world
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.token_lists import TokenLists


def encode_together(encoder: TextEncoder, tokens: TokenLists) -> NDArray[np.float32]:
    """Vectors of tokenised texts, float32 [N, D], in every process; each encodes an equal part.

    All processes must call it with the same texts.
    """
    rank, processes = rank_and_world()
    if processes == 1:
        return encoder.encode_tokens(tokens)
    share = -(-len(tokens) // processes)
    order_N = np.argsort(-tokens.length_N, kind="stable")  # long and short texts for everyone
    mine = order_N[rank::processes]
    vectors = np.zeros((share, encoder.dim), np.float32)
    vectors[: len(mine)] = encoder.encode_tokens(tokens.take(mine))
    device = next(encoder.model.parameters()).device
    sent = torch.from_numpy(vectors).to(device)
    parts = [torch.empty_like(sent) for _ in range(processes)]
    distributed.all_gather(parts, sent)
    all_ND = np.empty((len(tokens), encoder.dim), np.float32)
    for at, part in enumerate(parts):
        rows = order_N[at::processes]
        all_ND[rows] = part.cpu().numpy()[: len(rows)]
    return all_ND
