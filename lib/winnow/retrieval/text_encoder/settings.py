"""Settings of an encoder directory, in the files of sentence-transformers.

    modules.json                       the chain: Transformer, Pooling and maybe Normalize
    <pooling>/config.json              the pooling
    sentence_bert_config.json          tokens that a text is cut to
    config_sentence_transformers.json  text put before queries and documents

A directory without `modules.json` is a plain Hugging Face encoder: mean pooling, unit length. Both
spellings of the pooling file are read. The older one is written, because all versions know it.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from winnow.errors import EncoderError
from winnow.retrieval.text_encoder.ref import EncoderRef

logger = logging.getLogger(__name__)

Pooling = Literal["mean", "cls", "max", "lasttoken"]

SPELLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
"""Keys of the older pooling file, and the newer name of each pooling; two of them are refused."""
QUERY_PROMPTS = (
    "query",
    "search_query",  # Nomic
    "web_search_query",  # E5-Mistral
    "retrieval.query",  # Jina
    "retrieval_query",
    "s2p_query",  # Stella
)
"""Names of the prompt put before queries, in order of preference."""
DOCUMENT_PROMPTS = (
    "document",
    "passage",
    "corpus",
    "search_document",  # Nomic
    "retrieval.passage",  # Jina
    "retrieval.document",
    "retrieval_passage",
    "retrieval_document",
)
"""Names of the prompt put before documents, in order of preference."""
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
"""Modules of a chain that can be used, in their order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings:
    """How texts become vectors, besides the weights and the tokenizer."""

    pooling: Pooling = "mean"
    """How the hidden states of tokens become one vector."""
    normalize: bool = True
    """Whether vectors have unit length, so that inner products are cosines."""
    max_tokens: int
    """Tokens that a text is cut to, special ones included."""
    query_prefix: str = ""
    """Text put before every query."""
    document_prefix: str = ""
    """Text put before every document."""

    @classmethod
    def read(cls, folder: Path, *, most_tokens: int, ref: EncoderRef) -> "EncoderSettings":
        """The settings of a directory, where `ref` does not say otherwise.

        Args:
            most_tokens: what weights and tokenizer allow.

        Raises:
            EncoderError: a module or a pooling is unknown; the message names the file.
        """
        query_prefix, document_prefix = _prefixes(folder, ref)
        if not (folder / "modules.json").is_file():
            return cls(
                max_tokens=min(ref.max_tokens or most_tokens, most_tokens),
                query_prefix=query_prefix,
                document_prefix=document_prefix,
            )
        modules = _modules(folder)
        transformer = folder / modules["Transformer"]
        longest = _read_json(transformer / "sentence_bert_config.json").get("max_seq_length")
        return cls(
            pooling=_pooling(folder / modules["Pooling"] / "config.json"),
            normalize="Normalize" in modules,
            max_tokens=min(ref.max_tokens or longest or most_tokens, most_tokens),
            query_prefix=query_prefix,
            document_prefix=document_prefix,
        )

    def write(self, folder: Path, *, dim: int) -> None:
        """Write the files of sentence-transformers for weights and tokenizer in `folder`."""
        types = KNOWN_MODULES if self.normalize else KNOWN_MODULES[:2]
        chain = [
            {
                "idx": at,
                "name": str(at),
                "path": "" if at == 0 else f"{at}_{name}",
                "type": f"sentence_transformers.models.{name}",
            }
            for at, name in enumerate(types)
        ]
        for module in chain:
            (folder / str(module["path"])).mkdir(exist_ok=True)
        _write_json(folder / "modules.json", chain)
        modes = {key: mode == self.pooling for key, mode in SPELLINGS.items()}
        pooling = {"word_embedding_dimension": dim, **modes, "include_prompt": True}
        _write_json(folder / "1_Pooling" / "config.json", pooling)
        length = {"max_seq_length": self.max_tokens, "do_lower_case": False}
        _write_json(folder / "sentence_bert_config.json", length)
        words = {
            "prompts": {"query": self.query_prefix, "document": self.document_prefix},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine" if self.normalize else "dot",
        }
        _write_json(folder / "config_sentence_transformers.json", words)


def _prefixes(folder: Path, ref: EncoderRef) -> tuple[str, str]:
    """Texts before queries and documents: those of `ref`, else the prompts of the files.

    As in sentence-transformers, the default prompt stands in for one that is not there.
    """
    path = folder / "config_sentence_transformers.json"
    content = _read_json(path)
    found_there = content.get("prompts") or {}
    if not isinstance(found_there, dict):
        raise EncoderError(f"{path}: prompts must be an object of texts by name")
    prompts: dict[str, str] = {name: str(text or "") for name, text in found_there.items()}
    default = prompts.get(str(content.get("default_prompt_name")))

    def found(wanted: str | None, names: Sequence[str]) -> str | None:
        if wanted is not None:
            return prompts.get(wanted, wanted)
        return next((prompts[name] for name in names if name in prompts), default)

    query = found(ref.query_prefix, QUERY_PROMPTS)
    document = found(ref.document_prefix, DOCUMENT_PROMPTS)
    if query is None and document is None and any(prompts.values()):
        logger.warning(
            "%s has prompts, but none for queries or documents: set query_prefix and "
            "document_prefix to one of %s, or to a text",
            folder,
            ", ".join(prompts),
        )
    return query or "", document or ""


def _modules(folder: Path) -> dict[str, str]:
    """Path of each module of the chain, by the last part of its type."""
    found = {}
    for module in _parsed(folder / "modules.json", list):
        if not isinstance(module, dict) or not {"type", "path"} <= module.keys():
            raise EncoderError(f"{folder / 'modules.json'}: every module must have a type and path")
        name = str(module["type"]).rpartition(".")[2]
        if name not in KNOWN_MODULES:
            raise EncoderError(
                f"{folder / 'modules.json'} has a module {name}; encoders of "
                f"{', '.join(KNOWN_MODULES)} can be used"
            )
        found[name] = str(module["path"])
    missing = [name for name in KNOWN_MODULES[:2] if name not in found]
    if missing:
        raise EncoderError(f"{folder / 'modules.json'} has no module {missing[0]}")
    return found


def _pooling(path: Path) -> Pooling:
    config = _read_json(path)
    mode: Any = config.get("pooling_mode")
    if mode is None:
        modes = [SPELLINGS[key] for key, on in config.items() if key in SPELLINGS and on]
        mode = modes[0] if len(modes) == 1 else modes
    if mode not in get_args(Pooling):
        raise EncoderError(f"{path}: pooling {mode} is not one of {', '.join(get_args(Pooling))}")
    if config.get("include_prompt", True) is False:
        raise EncoderError(f"{path}: pooling without the prompt's tokens is not supported")
    return mode  # type: ignore[no-any-return]


def _read_json(path: Path) -> Mapping[str, Any]:
    return _parsed(path, dict) if path.is_file() else {}


def _parsed(path: Path, kind: type[Any]) -> Any:
    """The content of a JSON file, an object or a list.

    Raises:
        EncoderError: it is something else.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError as error:  # also of bytes that are no UTF-8
        raise EncoderError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, kind):
        raise EncoderError(f"{path} must hold a JSON {'object' if kind is dict else 'list'}")
    return content


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
