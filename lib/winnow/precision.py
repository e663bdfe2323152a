"""Which number format a machine computes fast.

A CPU without instructions for bfloat16 takes a hundred times as long for its products as for those
of float32, and neither torch nor vLLM keeps from it by itself.
"""

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
InferencePrecision = Literal["auto", "float32", "bfloat16", "int8"]
"""int8: of products with weights, where they are not trained; the rest is as with `auto`."""


def has_fast_bfloat16() -> bool:
    """Whether products of bfloat16 matrices are faster than those of float32 here."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def dtype_of(precision: InferencePrecision) -> torch.dtype:
    """The floating type that a precision stands for here."""
    if precision in ("auto", "int8"):
        precision = "bfloat16" if has_fast_bfloat16() else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
