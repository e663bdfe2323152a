"""Values as JSON can hold them."""

import json
from typing import Any


def finite(value: Any) -> Any:
    """The value with null for every number that is not finite, which JSON cannot hold.

    Example:
        >>> finite({"price": float("nan"), "sizes": [1.5, float("inf")]})
        {'price': None, 'sizes': [1.5, None]}
    """
    text = json.dumps(value)
    if "NaN" not in text and "Infinity" not in text:
        return value
    return json.loads(text, parse_constant=lambda _: None)
