"""/openapi.json: the routes of `serve.routes` with their bodies and answers."""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from serve.http import schema
from winnow import __version__
from winnow.cascade.answer import RecommendAnswer, UserAnswer

JSON = "application/json"
TEXT = "text/plain"
REF = "#/components/schemas/{model}"
MEANING = {
    401: "No valid token",
    403: "Not allowed",
    404: "No such path",
    409: "The bundle cannot be used",
    413: "The body is too large",
    421: "The host is no name of this endpoint",
    422: "The request is wrong; errors name the fields",
    429: "This client asks too often; see Retry-After",
    500: "The request failed; the log says why",
    503: "Too many requests wait, or the event store is down; see Retry-After",
}
USER_ID = {
    "name": "user_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": schema.MAX_ID},
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    answer: type | str
    """A dataclass, or the media type of an answer without a schema."""
    body: type | None = None
    others: tuple[int, ...] = ()
    """Statuses beyond those that every such operation may answer with."""

    @property
    def is_for_admin(self) -> bool:
        """Whether only a token of an administrator opens it."""
        return self.path.startswith("/admin") or self.method == "delete"

    @property
    def statuses(self) -> list[int]:
        """Every status but 200: faults, then limits, then what can be wrong with a body."""
        token = () if self.path == "/healthz" else (401,)
        of_body = () if self.body is None else (403, 413, 422)
        return sorted({421, 429, 500, *token, *of_body, *self.others})


RECOMMEND = "The k best items for a user on a surface"
ADD_EVENTS = "Add to users' histories; their next request sees it"
FORGET = "Delete a user's live events"
SWAP = "Swap a bundle in, or compare another for a share of the users"
OPERATIONS = (
    Operation("post", "/recommend", RECOMMEND, RecommendAnswer, schema.RecommendBody, (503,)),
    Operation("post", "/events", ADD_EVENTS, schema.EventsAccepted, schema.EventsBody, (503,)),
    Operation("get", "/users/{user_id}", "What is known of a user", UserAnswer, None, (404, 422)),
    Operation(
        "delete", "/users/{user_id}", FORGET, schema.EventsDeleted, None, (403, 404, 422, 503)
    ),
    Operation("get", "/catalogue", "What can be asked for", schema.CatalogueAnswer),
    Operation(
        "get", "/admin/bundle", "The bundle versions in use", schema.BundleState, None, (403,)
    ),
    Operation("post", "/admin/bundle", SWAP, schema.BundleState, schema.BundleBody, (409,)),
    Operation("get", "/healthz", "Answers once models and tables are loaded", schema.Health),
    Operation("get", "/metrics", "Prometheus text", TEXT),
    Operation("get", "/openapi.json", "This document", JSON),
)


def document() -> dict[str, Any]:
    """The whole OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    token = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Winnow", "version": __version__},
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"token": token}},
    }


def _schemas() -> dict[str, Any]:
    """Every body and answer, and what they consist of, by name."""
    wire = {part for one in OPERATIONS for part in (one.body, one.answer) if isinstance(part, type)}
    named = sorted(wire | {schema.Errors}, key=lambda part: part.__name__)
    mode: JsonSchemaMode = "validation"
    parts = [(part.__name__, mode, schema.schema_of(part)) for part in named]
    _, definitions = TypeAdapter.json_schemas(parts, ref_template=REF)
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _described(operation: Operation) -> dict[str, Any]:
    token: list[dict[str, list[str]]] = [{"token": []}]
    responses: dict[str, Any] = {
        "200": {"description": operation.summary, "content": _content(operation.answer)}
    }
    for status in operation.statuses:
        errors = _content(schema.Errors)
        responses[str(status)] = {"description": MEANING[status], "content": errors}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": responses,
        "security": token if operation.is_for_admin else [*token, {}],
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    if "{user_id}" in operation.path:
        described["parameters"] = [USER_ID]
    return described


def _content(part: type | str) -> dict[str, Any]:
    if isinstance(part, str):
        return {part: {"schema": {"type": "string" if part == TEXT else "object"}}}
    return {JSON: {"schema": {"$ref": REF.format(model=part.__name__)}}}
