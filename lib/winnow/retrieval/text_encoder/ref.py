"""The encoder of a job, and the texts that it puts before queries and documents."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EncoderRef:
    """An encoder, and how it reads texts; the fields of every job that encodes.

    `TextEncoder.load` and `TextEncoder.for_inference` take it in place of a folder. It has no
    slots, so that a config can inherit it beside another one.
    """

    model: str = "all-MiniLM-L6-v2"
    """Text encoder: a folder, the URI of an encoder artifact, a Hugging Face id, or a name that
    `winnow models` lists."""
    revision: str = ""
    """Branch, tag or commit of a Hugging Face id; empty: the newest. Other models have none."""
    query_prefix: str | None = None
    """Text put before every query, or the name of a prompt in the model's files; None: the prompt
    for queries in those files. E5 has none there and needs "query: "."""
    document_prefix: str | None = None
    """Text put before every document, or the name of a prompt in the model's files; None: the
    prompt for documents in those files. E5 has none there and needs "passage: "."""
    max_tokens: int = 0
    """Tokens a text is cut to, prefix included; 0: what the model's files say."""

    def __post_init__(self) -> None:
        if self.max_tokens < 0:
            raise ValueError(f"max_tokens must be 0 or more, got {self.max_tokens}")
