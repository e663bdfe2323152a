"""What goes over the wire: bodies and answers of the endpoint, and how a bad body is refused."""

from typing import Annotated, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from winnow.desk import RequestError

__all__ = [
    "EventsAccepted",
    "EventsBody",
    "Health",
    "RecommendAnswer",
    "RecommendBody",
    "refuse_with_field_names",
]

Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Body(BaseModel):
    """A misspelt or surplus field is an error, and "10" is not 10."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RecommendBody(Body):
    user_id: Id | None = Field(None, description="Known or new user; or give history")
    history: tuple[Id, ...] | None = Field(
        None,
        max_length=1000,
        strict=False,
        description="Liked item ids, oldest first; replaces what is known of the user",
    )
    scenario: Id = Field(description="Name or number of the surface the items will be shown on")
    k: int = Field(10, ge=1, description="Items wanted")


class EventBody(Body):
    event_id: Id = Field(description="Chosen by the sender; sending it again changes nothing")
    user_id: Id
    item_id: Id
    kind: Literal["like", "view"] = Field(
        "like", description="A like joins the history; a view only hides the item"
    )


class EventsBody(Body):
    events: Annotated[list[EventBody], Field(min_length=1, max_length=1000)]


class EventsAccepted(BaseModel):
    stored: int = Field(description="How many of the events were new")


class Item(BaseModel):
    item_id: str
    title: str
    score: float = Field(description="The ranker's probability of a positive")
    channel: str = Field(description="Recall channel that found the item")
    recall_position: int
    rank_position: int
    placed_by: Literal["recall", "rank", "rerank"]


class RecommendAnswer(BaseModel):
    items: list[Item]
    bundle: str = Field(description="Version of the models and tables that answered")
    timings_ms: dict[str, float] = Field(description="By stage")


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    bundle: str
    topology: str


def refuse_with_field_names(api: FastAPI) -> None:
    """Answer 422 with `{"errors": [{"field", "message"}]}` for every kind of bad request."""

    @api.exception_handler(RequestValidationError)
    async def invalid_body(_: Request, error: RequestValidationError) -> JSONResponse:
        return _refusal([(_field_of(e["loc"]), e["msg"]) for e in error.errors()])

    @api.exception_handler(RequestError)
    async def invalid_request(_: Request, error: RequestError) -> JSONResponse:
        return _refusal([(error.field, error.message)])


def _refusal(errors: list[tuple[str, str]]) -> JSONResponse:
    rows = [{"field": field, "message": message} for field, message in errors]
    return JSONResponse({"errors": rows}, status_code=422)


def _field_of(location: tuple[str | int, ...]) -> str:
    """`events.0.item_id` from FastAPI's ("body", "events", 0, "item_id")."""
    path = [str(part) for part in location if part != "body"]
    return ".".join(path) or "body"
