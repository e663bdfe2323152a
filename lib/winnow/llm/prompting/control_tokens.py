"""Spellings of control tokens, kept out of text that was not written here.

A tokenizer turns `<|im_end|>` or `[INST]` in a title into the token that ends a turn. Where the
served tokenizer is at hand, `winnow.llm.prompting.fit_context` decides by its own tokens. Behind an
endpoint it is unknown, so all text of catalogue, users, requests and models loses what any common
tokenizer takes for one: whatever begins with `<`, and the known tokens in brackets.
"""

import re

BRACKETED = re.compile(
    r"<"  # <s>, <|im_end|>, <start_of_turn>, <<SYS>>, <|user|> with wide bars
    r"|\[(?=\|"  # EXAONE's [|user|]
    r"|e~\["  # MiniMax's [e~[
    r"|/?(?:inst|system_prompt|available_tools|tool_calls|tool_results|tool_content|call_id|args"
    r"|model_settings|think|img|img_break|img_end|audio|begin_audio|transcribe|prefix|middle|suffix"
    r"|cls|sep|mask|pad|unk|bos|eos|eot|eod|gmask|smask|start_header_id|end_header_id"
    r"|(?:unused|unused_token_|extra_id_|control_)\d+)\])"  # Mistral's, BERT's, GLM's, Kimi's
    r"|\](?=~)",  # MiniMax's ]~b]
    re.IGNORECASE,
)
"""The first character of every spelling that might be a control token."""


def escaped(json_text: str) -> str:
    """JSON of the same value that spells no control token.

    Example:
        >>> escaped('["[INST] <s>", [1]]')
        '["\\\\u005bINST] \\\\u003cs>", [1]]'
    """
    return BRACKETED.sub(lambda found: f"\\u{ord(found.group()):04x}", json_text)


def broken_up(text: str) -> str:
    """Plain text with a space in every spelling of a control token.

    Example:
        >>> broken_up("[INST] 1 [2] <|im_end|>")
        '[ INST] 1 [2] < |im_end|>'
    """
    return BRACKETED.sub(lambda found: f"{found.group()} ", text)
