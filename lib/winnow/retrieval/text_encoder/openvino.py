"""An encoder's forward pass compiled for the CPU by OpenVINO, for weights that no longer change.

On the same CPU and at the same precision, a forward pass takes three quarters of torch's time; in
int8 it takes half. Attention is one fused kernel, and products are fused with what follows them.

In int8, the weights of every linear layer have a scale for each output. Their inputs are rounded to
int8 at run time, with a scale for each `width` values of a token. Nothing is calibrated. Sums,
attention and embeddings keep a floating type.

Suffixes: B texts of a batch, L tokens, D width of a hidden state, O outputs of a layer, I its
inputs.
"""

import importlib.util
import threading
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from winnow.precision import InferencePrecision, dtype_of

INT8_MOST = 127
"""Largest int8 value; -128 stays unused, so that scales are symmetric."""
TRIAL_TOKENS = 48
"""Tokens of a made text beyond a window, or in all without one: several of every word position."""


def has_openvino() -> bool:
    """Whether the extra `winnow[openvino]` is installed."""
    return importlib.util.find_spec("openvino") is not None


def trial_batch(model: nn.Module, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Padded token ids of made texts and their mask, both [B, L], to compare two backends by.

    Their lengths go from one token to beyond the window of local attention, where a mistake in the
    mask shows, but not beyond the longest text.
    """
    config: Any = model.config
    longest = max(min(2 * _window(config) + TRIAL_TOKENS, max_tokens), 2)
    length_B = torch.tensor([longest, longest // 2, min(longest, TRIAL_TOKENS) // 2, 1])
    real_BL = torch.arange(longest) < length_B[:, None]
    words = int(config.get_text_config().vocab_size)
    draw = torch.Generator().manual_seed(0)
    ids_BL = torch.randint(words, real_BL.shape, generator=draw)
    padding = getattr(config, "pad_token_id", None) or 0
    ids_BL[ids_BL == padding] = (padding + 1) % words  # a text with it would have other positions
    return ids_BL.masked_fill(~real_BL, padding), real_BL


def _window(config: Any) -> int:
    """Tokens of the widest local attention; 0 if all attention is global."""
    names = ("sliding_window", "local_attention", "attention_window")
    said = [getattr(config.get_text_config(), name, None) for name in names]
    widths = [at for found in said for at in (found if isinstance(found, list) else [found])]
    return max((at for at in widths if isinstance(at, int)), default=0)


class OpenVinoTransformer:
    """Computes the hidden states of a model for batches of any size, without gradients.

    Args:
        model: a Hugging Face encoder with float32 weights, which must not change afterwards.
        width: width of its hidden states.
        precision: `auto` is bfloat16 where that is fast.
    """

    def __init__(self, model: nn.Module, width: int, precision: InferencePrecision) -> None:
        from openvino import Core

        self.at_a_time = torch.get_num_threads()
        """Threads that should call concurrently: each call runs on one thread."""
        self._of_thread = threading.local()
        converted = _converted(model)
        hint = "bf16" if dtype_of(precision) == torch.bfloat16 else "f32"
        options = {
            # One thread per batch and as many batches as threads. On two cores this is a sixth
            # faster than two threads per batch, which wait for each other after every layer.
            "NUM_STREAMS": str(self.at_a_time),
            "INFERENCE_NUM_THREADS": self.at_a_time,
            # Pinned, the workers of one node would all sit on its first cores.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": hint,
        }
        if precision == "int8":
            _quantize_weights(converted)
            options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = str(width)
        self._compiled = Core().compile_model(converted, "CPU", options)

    def __call__(self, ids_BL: Tensor, real_BL: Tensor) -> Tensor:
        """Hidden states, float32 [B, L, D]; those of padding are meaningless."""
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._compiled.create_infer_request()
        return torch.from_numpy(request.infer([ids_BL.numpy(), real_BL.long().numpy()])[0])


def _converted(model: nn.Module) -> Any:
    """The model in OpenVINO's form.

    `openvino.convert_model` would do the same, and send telemetry to the vendor.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    def hidden(ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        states: Tensor = model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        return states

    model.eval().requires_grad_(False)  # the trace keeps the weights as constants
    ids_BL = torch.zeros(2, 4, dtype=torch.long)
    mask_BL = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about branches on shapes, and that tracing is deprecated
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            hidden, (ids_BL, mask_BL), check_trace=False
        )
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # the frontend does not keep it alive
    return frontend.convert(frontend.load(decoder))


def _quantize_weights(model: Any) -> None:
    """Replace every constant that a linear layer multiplies with by int8 values and scales."""
    from openvino import opset13 as ops

    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        weight = node.input_value(1).get_node()
        if weight.get_type_name() != "Constant":
            continue  # attention multiplies two activations
        inputs = 1 if node.get_attributes()["transpose_b"] else 0
        weight_OI = weight.get_data().astype(np.float32)
        most = np.abs(weight_OI).max(axis=inputs, keepdims=True)
        scale = np.where(most > 0, most, 1) / np.float32(INT8_MOST)
        rounded = ops.constant(np.rint(weight_OI / scale).astype(np.int8))
        restored = ops.multiply(ops.convert(rounded, "f32"), ops.constant(scale))
        node.input(1).replace_source_output(restored.output(0))
