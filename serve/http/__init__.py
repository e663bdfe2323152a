"""Bytes in and out: ASGI, limits, schemas, pages."""
