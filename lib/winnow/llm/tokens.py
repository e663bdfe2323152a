"""Chat messages to token ids, with the tokenizer and chat template of a model."""

import json
from functools import lru_cache
from typing import Any

__all__ = ["prompt_tokens"]


@lru_cache(maxsize=1)
def _tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source)


def prompt_tokens(source: str, messages: str) -> list[int]:
    """Token ids that ask the model at `source` (a folder or an id) for its answer.

    The tokenizer is read once a process. The template adds every special token itself, so none
    is added twice.

    Args:
        source: a Hugging Face folder or id.
        messages: JSON text of the chat messages.
    """
    tokenizer = _tokenizer(source)
    prompt = tokenizer.apply_chat_template(
        json.loads(messages), tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return ids
