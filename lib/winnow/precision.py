"""The number formats of models, and which of them a machine computes fast.

On a CPU without bfloat16 instructions, products of bfloat16 matrices take about a hundred times as
long as float32 ones, and neither torch nor vLLM avoids them by itself.
"""

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
"""Number format of matrix products; `auto` is bfloat16 where it is fast, else float32."""
InferencePrecision = Literal["auto", "float32", "bfloat16", "int8"]
"""Number format where nothing trains; `int8` rounds weights, and all else is as with `auto`."""


def has_fast_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 matrices faster than float32 ones."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def dtype_of(precision: InferencePrecision) -> torch.dtype:
    """The floating-point type of a precision on this machine."""
    if precision in ("auto", "int8"):
        precision = "bfloat16" if has_fast_bfloat16() else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
