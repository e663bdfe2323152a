"""/openapi.json: the routes of `serve.http.asgi`, the models of `serve.http.schema`."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve.http import schema as api
from winnow import __version__

JSON = "application/json"
REF = "#/components/schemas/{model}"
MEANING = {
    401: "No valid token", 403: "Not allowed", 404: "No such path",
    409: "The bundle cannot be used", 413: "The body is too large",
    422: "The request is wrong; errors name the fields",
    429: "This client asks too often; see Retry-After",
    500: "The request failed; the log says why",
    503: "Too many requests wait, or the event store is down; see Retry-After",
}  # fmt: skip

Operation = tuple[str, str, str, type[BaseModel] | None, type[BaseModel] | str, tuple[int, ...]]
OPERATIONS: tuple[Operation, ...] = (
    ("post", "/recommend", "The k best items for a user on a surface",
     api.RecommendBody, api.RecommendAnswer, (401, 403, 413, 422, 429, 500, 503)),
    ("post", "/events", "Add to users' histories; their next request sees it",
     api.EventsBody, api.EventsAccepted, (401, 403, 413, 422, 429, 500, 503)),
    ("get", "/users/{user_id}", "What is known of a user",
     None, api.UserAnswer, (401, 404, 422, 429, 500)),
    ("get", "/catalogue", "What can be asked for", None, api.CatalogueAnswer, (401, 429, 500)),
    ("get", "/admin/bundle", "The bundle versions in use",
     None, api.BundleState, (401, 403, 429, 500)),
    ("post", "/admin/bundle", "Swap a bundle in, or compare another for a share of the users",
     api.BundleBody, api.BundleState, (401, 403, 409, 413, 422, 429, 500)),
    ("get", "/healthz", "Answers once models and tables are loaded", None, api.Health, (500,)),
    ("get", "/metrics", "Prometheus text", None, "text/plain", (401, 429, 500)),
    ("get", "/openapi.json", "This document", None, JSON, (401, 429, 500)),
)  # fmt: skip


def document() -> dict[str, Any]:
    """The whole OpenAPI 3.1 document."""
    models = {m for op in OPERATIONS for m in op[3:5] if isinstance(m, type)} | {api.Errors}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema([(m, "validation") for m in ordered], ref_template=REF)
    paths: dict[str, Any] = {}
    for method, path, summary, body, answer, statuses in OPERATIONS:
        operation = _operation(summary, body, answer, statuses)
        if "{user_id}" in path:
            operation["parameters"] = [USER_ID]
        operation["security"] = (
            [{"token": []}] if path.startswith("/admin") else [{"token": []}, {}]
        )
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Winnow", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


USER_ID = {
    "name": "user_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}


def _operation(
    summary: str,
    body: type[BaseModel] | None,
    answer: type[BaseModel] | str,
    statuses: tuple[int, ...],
) -> dict[str, Any]:
    schema = {"type": "string"} if answer == "text/plain" else {"type": "object"}
    content = {answer: {"schema": schema}} if isinstance(answer, str) else _content(answer)
    responses: dict[str, Any] = {"200": {"description": summary, "content": content}}
    for status in statuses:
        responses[str(status)] = {"description": MEANING[status], "content": _content(api.Errors)}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _content(body)}
    return operation


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": REF.format(model=model.__name__)}}}
