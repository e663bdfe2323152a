"""The second attempt at an answer: the first one and what is wrong with it go back to the model."""

import json
from dataclasses import replace

from winnow.llm.prompting.control_tokens import broken_up
from winnow.llm.prompting.request import Request

ECHO_CHARACTERS = 2_000
"""Characters of the first answer that the model sees again: its mistake, at a bounded price."""


def corrected(request: Request, text: str, problem: str) -> Request:
    """The request with two more turns; its key stays, so the answer is the request's own."""
    messages = [
        *json.loads(request.messages),
        {"role": "assistant", "content": broken_up(text[:ECHO_CHARACTERS])},
        {
            "role": "user",
            "content": f"This cannot be used: {broken_up(problem)}. "
            "Answer again, with the JSON object alone.",
        },
    ]
    return replace(request, messages=json.dumps(messages))
