"""The context of a model: how many tokens its positions reach, read before any engine starts."""

from typing import Any

from winnow.llm.prompting.fit_context import hub_name

LIMITS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""Fields of a model's config that bound its positions; the smallest one counts."""
SCALED_ALREADY = ("su", "longrope", "llama3", "default")
"""Kinds of rotary positions whose factor is part of the bound."""


def context_of(source: str) -> int:
    """Most tokens of a prompt and its answer that the model can take; 0 if its files do not say.

    The rules are those of vLLM, which refuses to start with more.
    """
    from transformers import AutoConfig

    name, revision = hub_name(source)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
        return _context(config.get_text_config())
    except Exception:  # an architecture of the engine's own, or no network: the engine will say
        return 0


def _context(config: Any) -> int:
    if command_r := getattr(config, "model_max_length", None):
        return int(command_r)
    limits = [getattr(config, name, None) for name in LIMITS]
    limit = min((limit for limit in limits if limit), default=0)
    if "gemma3" in config.model_type:
        return int(limit)
    rope = getattr(config, "rope_parameters", None) or {}
    for part in [rope] if "rope_type" in rope else rope.values():
        if isinstance(part, dict) and part.get("rope_type", "default") not in SCALED_ALREADY:
            limit = part.get("original_max_position_embeddings") or limit
            return int(limit * (part.get("factor") or 1))
    return int(limit)
