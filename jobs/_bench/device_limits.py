"""Measured limits of a device, which speeds on it are compared with."""

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

MATRIX = 8192
"""Rows and columns of the factors: enough to fill any GPU of today."""
COPIED_BYTES = 2**30
"""Bytes of the copy: far more than any cache holds."""
REPEATS = 10
"""Timings, of which the median counts."""


def ceilings(device: str) -> dict[str, Any]:
    """Bandwidth of a copy on a GPU, reads and writes counted, and FLOP/s of matrix products."""
    copied = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(copied)
    copying = 2 * COPIED_BYTES / _seconds(lambda: target.copy_(copied))
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return {
        "device": torch.cuda.get_device_name(device),
        "copy_tb_per_s": round(copying / 1e12, 2),
        "tflops": {name: round(_product(device, kind) / 1e12, 1) for name, kind in types.items()},
    }


def flop_of(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and attentions in a call.

    Example:
        >>> flop_of(lambda: torch.ones(2, 3) @ torch.ones(3, 5))
        60
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def _product(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a matrix product of random numbers; with zeros it would be faster."""
    left, right = (torch.randn(MATRIX, MATRIX, device=device).to(dtype) for _ in range(2))
    return 2 * MATRIX**3 / _seconds(lambda: left @ right)


def _seconds(call: Callable[[], object]) -> float:
    """Median time on the device."""
    for _ in range(3):
        call()
    spent: list[float] = []
    for _ in range(REPEATS):
        event: Any = torch.cuda.Event  # its functions have no types
        began, ended = event(enable_timing=True), event(enable_timing=True)
        began.record()
        call()
        ended.record()
        ended.synchronize()
        spent.append(began.elapsed_time(ended) / 1e3)
    return median(spent)
