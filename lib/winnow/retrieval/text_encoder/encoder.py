"""A text encoder: any Hugging Face encoder directory, used as its own files say.

Pooling, prefixes, unit length and the maximal text length are read from the files of
sentence-transformers (`settings`). `save` writes a directory that sentence-transformers loads
unchanged.

Suffixes: N texts, B texts of a batch, L tokens, D vector width.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.data.progress import Progress
from winnow.errors import EncoderError
from winnow.precision import InferencePrecision, Precision, dtype_of
from winnow.retrieval.text_encoder.find import folder_of
from winnow.retrieval.text_encoder.loading import (
    first_line,
    load_model,
    load_tokenizer,
    longest_text,
    transformer_folder,
)
from winnow.retrieval.text_encoder.openvino import OpenVinoTransformer, has_openvino, trial_batch
from winnow.retrieval.text_encoder.ref import EncoderRef
from winnow.retrieval.text_encoder.settings import EncoderSettings
from winnow.retrieval.text_encoder.token_lists import TokenLists, Truncation, token_batches

logger = logging.getLogger(__name__)

Kind = Literal["query", "document"]

BATCH_TOKENS = {"cpu": 2_048, "cuda": 262_144}
"""Padded tokens of a batch: a layer's values then fit the caches of a CPU or fill a GPU. A device
without enough memory gets half as many, again and again."""
OTHER_BATCH_TOKENS = 32_768
"""Padded tokens of a batch on any other device, whose memory is not known."""
TOKENIZED_TOGETHER = 8_192
"""Texts tokenised together; their token lists exist as Python objects meanwhile."""
HOW_TO_INSTALL = 'pip install "winnow[openvino]"'
SHOWN_CHARACTERS = 80
"""Characters of a text that an error shows."""
SAME_VECTOR = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.int8: 0.4}
"""Largest distance of OpenVINO's vectors from torch's in float32, as a share of their length: what
rounding explains. A model that is compiled wrongly is further off by its values or by a NaN."""


class NonFiniteVectorError(EncoderError):
    """A text has no vector, since the weights give infinity or NaN."""


class TextEncoder:
    """Turns texts into vectors; queries and documents share the weights, not the prefix.

    Use for retrieval by text alone. Use `two_tower.retriever.Retriever` instead where users and
    items have ids and features.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        settings: EncoderSettings,
        most_tokens: int,
        name: str = "the encoder",
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.most_tokens = most_tokens
        """Tokens of the longest text that weights and tokenizer allow."""
        self.name = name
        """The model as errors call it: its folder."""
        self.products = torch.float32
        """Type of the matrix products of float32 weights; bfloat16 turns on torch's autocast."""
        self.truncation: dict[Kind, Truncation] = {"query": Truncation(), "document": Truncation()}
        """How much of all texts tokenised so far was cut, by kind."""
        self._compiled: OpenVinoTransformer | None = None
        self._check_room()

    @classmethod
    def load(
        cls, source: str | Path | EncoderRef, *, precision: Precision = "float32"
    ) -> "TextEncoder":
        """Read a directory, or the model of a ref with its prefixes and length.

        Args:
            precision: type of the weights; `auto` is bfloat16 where that is fast.

        Raises:
            EncoderError: the folder, its tokenizer or its encoder is missing or of no use, its
                pooling is unknown, or a prefix leaves no room for texts.
        """
        ref = source if isinstance(source, EncoderRef) else EncoderRef(model=str(source))
        folder = folder_of(ref) if isinstance(source, EncoderRef) else Path(source)
        root = transformer_folder(folder)
        tokenizer = load_tokenizer(root)
        model = load_model(root, dtype_of(precision))
        most_tokens = longest_text(model, tokenizer)
        settings = EncoderSettings.read(folder, most_tokens=most_tokens, ref=ref)
        encoder = cls(model, tokenizer, settings, most_tokens, str(folder))
        encoder._check_model()
        return encoder

    @classmethod
    def for_inference(
        cls,
        source: str | Path | EncoderRef,
        *,
        precision: InferencePrecision = "auto",
        device: str = "cpu",
    ) -> "TextEncoder":
        """Read a directory, or the model of a ref, for encoding.

        On a CPU, OpenVINO compiles the model if it is installed and gives torch's vectors for a
        padded batch. Otherwise torch encodes, and a warning says why. The encoder's vectors have no
        gradients, and its weights must not be changed.

        Raises:
            EncoderError: `load` fails, or int8 is asked for and OpenVINO cannot be used.
        """
        problem = "" if device == "cpu" else "there is no int8 on a GPU"
        if inference_backend(device) == "openvino":
            encoder = cls.load(source)
            problem = encoder._compile(precision)
            if not problem:
                return encoder
        if precision == "int8":
            raise EncoderError(
                f"precision=int8 needs a CPU and OpenVINO: {problem or HOW_TO_INSTALL}, "
                "or take precision=auto"
            )
        if problem and device == "cpu":
            _warn_of_torch(encoder.name, problem)
            encoder.model.to(dtype_of(precision))
            return encoder
        encoder = cls.load(source, precision=precision)
        encoder.model.to(device)
        return encoder

    def _compile(self, precision: InferencePrecision) -> str:
        """Encode with OpenVINO from now on, or say why that is not possible."""
        ids_BL, real_BL = trial_batch(self.model, self.settings.max_tokens)
        with torch.inference_mode():
            wanted_BD = self(ids_BL, real_BL)
            try:
                self._compiled = OpenVinoTransformer(self.model, self.dim, precision)
                found_BD = self(ids_BL, real_BL)
            except Exception:  # a failed conversion raises types of several libraries
                self._compiled = None
                return f"it cannot convert a {self.model.config.model_type}"  # type: ignore[union-attr]
        apart = float(((found_BD - wanted_BD).norm(dim=1) / wanted_BD.norm(dim=1)).max())
        most = SAME_VECTOR[torch.int8 if precision == "int8" else dtype_of(precision)]
        if apart <= most:
            return ""
        self._compiled = None
        return f"vectors of a padded batch differ from torch's by {apart:.3g}, at most {most} may"

    @property
    def backend(self) -> str:
        """Library that encodes: openvino or torch."""
        return "openvino" if self._compiled else "torch"

    def _check_model(self) -> None:
        """Encode two tokens: what cannot be used says so here and not after hours.

        Raises:
            EncoderError: the model takes something else than texts, or gives no hidden states.
        """
        ids_BL = torch.full((1, 2), self.padding + 1)
        try:
            with torch.inference_mode():
                width = int(self._hidden(ids_BL, torch.ones(1, 2, dtype=torch.bool)).shape[-1])
        except Exception as error:  # every architecture raises types of its own
            raise EncoderError(f"{self.name} cannot encode texts: {first_line(error)}") from error
        if width != self.dim:
            raise EncoderError(
                f"{self.name} gives hidden states of width {width}, its config says {self.dim}"
            )

    def _check_room(self) -> None:
        """Raises EncoderError if a prefix and special tokens take all of `max_tokens`."""
        most, backend = self.settings.max_tokens, self.tokenizer.backend_tokenizer
        backend.no_truncation()
        for kind in get_args(Kind):
            prefix = getattr(self.settings, f"{kind}_prefix")
            taken = len(backend.encode(prefix).ids)
            if taken >= most:
                raise EncoderError(
                    f"{self.name}: the {kind} prefix {prefix[:SHOWN_CHARACTERS]!r} and special "
                    f"tokens take {taken} tokens, so max_tokens={most} leaves no room for a text"
                )

    def save(self, folder: Path) -> None:
        """Write weights (float32, safetensors), tokenizer and settings."""
        weights = {name: value.float() for name, value in self.model.state_dict().items()}
        self.model.save_pretrained(folder, state_dict=weights)  # type: ignore[operator]
        config_file = folder / "config.json"
        config_file.write_text(config_file.read_text().replace('"bfloat16"', '"float32"'))
        self.tokenizer.save_pretrained(folder)
        self.settings.write(folder, dim=self.dim)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        config: Any = self.model.config
        return int(config.get_text_config().hidden_size)

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
            part = texts[start : start + TOKENIZED_TOGETHER]
            for at, text in enumerate(part, start):
                if not isinstance(text, str):
                    raise ValueError(f"{kind} {at} must be a text, got {text!r}")
            found = backend.encode_batch_fast([prefix + text.strip() for text in part])
            self.truncation[kind].add(self._truncation(found))
            parts.append(TokenLists.of([one.ids for one in found]))
        return TokenLists.joined(parts) if parts else TokenLists.of([])

    def truncated(self) -> dict[str, float]:
        """Share of texts cut and of tokens lost among all texts tokenised so far, by kind."""
        query, document = self.truncation["query"], self.truncation["document"]
        return document.shares("document") | query.shares("query")

    def _truncation(self, found: Sequence[Any]) -> Truncation:
        """How much of tokenised texts was cut; every piece repeats the special tokens."""
        special = self.tokenizer.backend_tokenizer.num_special_tokens_to_add(False)
        kept = sum(len(one) - special for one in found)
        pieces = [one.overflowing for one in found]
        lost = sum(len(piece) - special for rest in pieces for piece in rest)
        return Truncation(len(found), sum(map(bool, pieces)), kept + lost, lost)

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
        """Vectors of tokenised texts, float32 [N, D], in their order.

        Raises:
            NonFiniteVectorError: a vector is not finite; the message names the text.
            EncoderError: one text alone does not fit the device's memory.
        """
        vector_ND = self.unchecked_vectors(tokens)
        self.check_finite(vector_ND, tokens)
        return vector_ND

    def unchecked_vectors(self, tokens: TokenLists) -> NDArray[np.float32]:
        """Vectors as `encode_tokens` returns them, which may hold NaN.

        Use it where all ranks must go on together; call `check_finite` afterwards.
        """
        vector_ND = np.empty((len(tokens), self.dim), np.float32)
        progress = Progress("encoded texts", len(tokens))
        training = self.model.training
        self.model.eval()
        try:
            if self._compiled is None:
                self._encode_in_turn(tokens, vector_ND, progress)
            else:
                encode = partial(self._encode_rows, tokens, vector_ND)
                batches = token_batches(tokens.length_N, BATCH_TOKENS["cpu"])
                with ThreadPoolExecutor(self._compiled.at_a_time) as pool:
                    for encoded in pool.map(encode, batches):
                        progress.add(encoded)
        finally:
            self.model.train(training)
        return vector_ND

    def check_finite(self, vector_ND: NDArray[np.float32], tokens: TokenLists) -> None:
        """Raise NonFiniteVectorError that names the first text whose vector is not finite."""
        bad_N = np.asarray(~np.isfinite(vector_ND).all(axis=1))
        if bad_N.any():
            row = int(bad_N.argmax())
            text = self.tokenizer.decode(tokens.of_text(row), skip_special_tokens=True)
            raise NonFiniteVectorError(
                f"{self.name} ({self.backend}) gives vectors with NaN or infinity for "
                f"{int(bad_N.sum())} of {len(bad_N)} texts, such as {text[:SHOWN_CHARACTERS]!r}"
            )

    def _encode_in_turn(
        self, tokens: TokenLists, vector_ND: NDArray[np.float32], progress: Progress
    ) -> None:
        """Fill in vectors batch by batch; batches that the device has no memory for are halved."""
        left_N = np.argsort(-tokens.length_N, kind="stable")
        most = BATCH_TOKENS.get(self._device.type, OTHER_BATCH_TOKENS)
        while len(left_N):
            full = False
            longest = max(int(tokens.length_N[left_N[0]]), 1)
            rows_B = left_N[: max(most // longest, 1)]
            try:
                progress.add(self._encode_rows(tokens, vector_ND, rows_B))
            except torch.OutOfMemoryError as error:
                if len(rows_B) == 1:
                    raise EncoderError(
                        f"{self.name}: one text of {longest} tokens does not fit the memory of "
                        f"{self._device}; set a smaller max_tokens"
                    ) from error
                full = True
            if full:  # outside of the handler, whose traceback keeps the tensors alive
                most = longest * (len(rows_B) // 2)
                logger.info("out of memory on %s: batches of %d tokens now", self._device, most)
                _free(self._device)
            else:
                left_N = left_N[len(rows_B) :]

    @torch.inference_mode()
    def _encode_rows(
        self, tokens: TokenLists, vector_ND: NDArray[np.float32], rows_B: NDArray[np.int64]
    ) -> int:
        """Fill in the vectors of some texts; returns how many they are."""
        ids_BL, real_BL = tokens.padded(rows_B, self.padding)
        vector_BD = self(ids_BL.to(self._device), real_BL.to(self._device))
        vector_ND[rows_B] = vector_BD.cpu().numpy()
        return len(rows_B)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def inference_backend(device: str = "cpu") -> str:
    """Library that `TextEncoder.for_inference` tries first here: openvino or torch."""
    return "openvino" if device == "cpu" and has_openvino() else "torch"


@cache
def _warn_of_torch(name: str, problem: str) -> None:
    """Warn once in a process, which may read a model for documents and again for queries."""
    logger.warning("torch encodes with %s, and not OpenVINO, which is faster: %s", name, problem)


def _free(device: torch.device) -> None:
    """Give unused memory back, which is in pieces of the larger batches' sizes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


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
