"""The part of HTTP/1.1 that a load needs: prepared requests, and the end of an answer."""

import json
from typing import Any

LAST_CHUNK = b"0\r\n\r\n"
"""End of an answer in chunks. JSON on one line cannot contain it."""


def body_of(head: bytes, rest: bytes) -> bytes | None:
    """The body if it is whole, else None; without a length it comes in chunks.

    `head` is in lower case.

    Example:
        >>> body_of(b"http/1.1 200 ok\\r\\ncontent-length: 2", b"{}")
        b'{}'
        >>> body_of(b"http/1.1 200 ok\\r\\nconnection: close", b"1\\r\\n7\\r\\n0\\r\\n\\r\\n")
        b'7'
    """
    _, found, length = head.partition(b"\r\ncontent-length:")
    if found:
        return rest if len(rest) >= int(length.partition(b"\r\n")[0]) else None
    if not rest.endswith(LAST_CHUNK):
        return None
    pieces = []
    while rest != LAST_CHUNK:
        size, _, rest = rest.partition(b"\r\n")
        pieces.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return b"".join(pieces)


def prepared(plan: dict[str, Any], path: str, body: dict[str, Any]) -> tuple[bytes, bool]:
    """Bytes of the request, and whether its answer is a recommendation."""
    data = json.dumps(body, separators=(",", ":")).encode()
    host = f"[{plan['host']}]" if ":" in plan["host"] else plan["host"]
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: {host}:{plan['port']}",
        "content-type: application/json",
        f"content-length: {len(data)}",
    ]
    if plan["token"]:
        lines.append(f"authorization: Bearer {plan['token']}")
    return "\r\n".join([*lines, "", ""]).encode() + data, path == "/recommend"
