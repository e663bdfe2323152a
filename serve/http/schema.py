"""What goes over the wire: bodies and answers of the endpoint, and how a bad body is refused.

The bodies check requests; the answers only describe, for /openapi.json, what is encoded straight
from the dataclasses of `winnow.desk`.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from serve.http.reply import Refusal
from winnow.cascade.request import RequestError

Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Mode = Literal["standard", "goal", "tree"]
MAX_DEADLINE_MS = 60_000


class Body(BaseModel):
    """A misspelt or surplus field is an error, and "10" is not 10."""

    model_config = ConfigDict(extra="forbid", strict=True)


B = TypeVar("B", bound=Body)


class RecommendBody(Body):
    user_id: Id | None = Field(None, description="Known or new user; or give history")
    history: Annotated[list[Id], Field(max_length=1000)] | None = Field(
        None, description="Liked item ids, oldest first; replaces what is known of the user"
    )
    scenario: Id = Field(description="Name or number of the surface the items will be shown on")
    k: int = Field(10, ge=1, le=10_000, description="Items wanted; /catalogue has the most")
    mode: Mode = Field("standard", description="/catalogue has those that this endpoint offers")
    goal: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = Field(
        None, description="What the list should be like, in words; of mode goal alone"
    )
    deadline_ms: int | None = Field(
        None, ge=1, le=MAX_DEADLINE_MS, description="For the whole request; what is late is skipped"
    )
    explain: bool = Field(False, description="Say what each stage proposed")


class EventBody(Body):
    event_id: Id = Field(description="Chosen by the sender; sending it again changes nothing")
    user_id: Id
    item_id: Id
    kind: Literal["like", "view"] = Field(
        "like", description="A like joins the history; a view only hides the item"
    )


class EventsBody(Body):
    events: Annotated[list[EventBody], Field(min_length=1, max_length=1000)]


class BundleBody(Body):
    bundle: Uri = Field(description="Bundle artifact that every node can read")
    variant: Literal["a", "b"] = Field("a", description="b: beside the one in use, for a share")
    share: float | None = Field(None, ge=0, le=1, description="Of the users, that variant b gets")


class EventsAccepted(BaseModel):
    stored: int = Field(description="How many of the events were new")


class Item(BaseModel):
    item_id: str
    title: str
    score: float | None = Field(description="The ranker's, 0 to 1; null if rank gave none")
    channel: str = Field(description="Recall channel that found the item, or tree")
    recall_position: int | None = Field(description="Null of an item of the tree; likewise below")
    rank_position: int | None
    placed_by: Literal["recall", "rank", "rerank", "llm"]


class Degraded(BaseModel):
    stage: str
    reason: Literal["late", "failed", "overloaded"]


class Proposed(BaseModel):
    item_id: str
    title: str
    channel: str
    score: float | None


class Llm(BaseModel):
    stop: str = Field(description="Why the language model's walk ended")
    nodes: list[dict[str, Any]]
    calls: int
    tokens: int


class RecommendAnswer(BaseModel):
    items: list[Item]
    bundle: str = Field(description="Version of the models and tables that answered")
    variant: Literal["a", "b"]
    timings_ms: dict[str, float] = Field(description="By stage, and in total")
    degraded: list[Degraded] = Field(description="Stages whose fallback answered; empty when whole")
    trace_id: str
    proposed: dict[str, list[Proposed]] | None = Field(None, description="Only with explain")
    llm: Llm | None = Field(None, description="Only of modes goal and tree")


class LikedItem(BaseModel):
    item_id: str
    title: str
    scenario: str | None


class UserAnswer(BaseModel):
    user_id: str
    known: bool
    liked: list[LikedItem] = Field(description="The latest 50, newest first")
    views: int


class Scenario(BaseModel):
    id: int
    name: str


class CatalogueAnswer(BaseModel):
    bundle: str
    topology: str
    scenarios: list[Scenario]
    users: list[str] = Field(description="Some known users")
    items: int
    max_k: int
    modes: list[Mode]


class BundleState(BaseModel):
    bundle: str = Field(description="Version that answers as variant a")
    uri: str
    candidate: str | None = Field(description="Version of variant b")
    candidate_uri: str | None
    share: float
    previous: str | None = Field(description="Kept loaded: going back to it is instant")
    switched: int = Field(description="Replicas that are known to have it")
    behind: int = Field(description="Replicas that could not load it and keep the old one")


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    bundle: str
    topology: str


class FieldError(BaseModel):
    field: str
    message: str


class Errors(BaseModel):
    errors: list[FieldError]


def parse(model: type[B], body: bytes) -> B:
    """The body as that model; a Refusal names every wrong field, as `events.0.item_id`."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        rows = error.errors(include_url=False, include_input=False, include_context=False)
        raise Refusal(422, *[(_field_of(row["loc"]), row["msg"]) for row in rows]) from None


def refusal_of(error: RequestError) -> Refusal:
    return Refusal(422, (error.field, error.message))


def _field_of(location: tuple[str | int, ...]) -> str:
    return ".".join(map(str, location)) or "body"
