"""What goes over the wire: request bodies, the answers that are not `winnow.cascade.answer`'s.

Bodies are pydantic models, which check requests. Answers are dataclasses, encoded as they are;
their schemas are made from the same classes, with their docstrings as descriptions.
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    with_config,
)
from pydantic_core import PydanticCustomError

from serve.args import Deadline, Share
from serve.http.limits import BODY_BYTES
from serve.http.reply import MAX_ERRORS, Refusal
from winnow.cascade.answer import Catalogue, Variant
from winnow.cascade.request import Mode, RequestError

MAX_ID = 256
"""Characters of an id: every known data set's ids are shorter."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]
MAX_CONTEXT = 256
"""Context values of a request: far more than a data set has fields."""
Number = Annotated[float, Field(allow_inf_nan=False)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Text = Annotated[str, StringConstraints(max_length=MAX_ID)]


def _one_error(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Refuse a value once, not once for each type that it might have had."""
    try:
        return check(value)
    except ValidationError:
        message = f"must be a finite number or a text of at most {MAX_ID} characters"
        raise PydanticCustomError("context_value", message) from None


Value = Annotated[Text | Integer | Number, WrapValidator(_one_error)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class Body(BaseModel):
    """A misspelt or surplus field is an error, and "10" is not 10."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


B = TypeVar("B", bound=Body)


class RecommendBody(Body):
    user_id: Id | None = None
    """A known or a new user; or give `history`."""
    history: Annotated[list[Id], Field(max_length=1000)] | None = None
    """Liked item ids, oldest first; they replace what is known of the user."""
    scenario: Id
    """Name or number of the surface that the items will be shown on."""
    context: Annotated[dict[Id, Value], Field(max_length=MAX_CONTEXT)] = {}
    """Context fields by name, with values as the log has them; /catalogue lists the names. The
    ranker takes a value that it never saw, and one that is missing, as unknown."""
    k: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Items wanted; /catalogue has the most."""
    mode: Mode = "standard"
    """/catalogue lists those that this endpoint offers."""
    goal: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    """What the list should be like, in words; for mode goal only."""
    deadline_ms: Deadline | None = None
    """Time for the whole request; stages that would be late are skipped. Modes goal and tree take
    at most the endpoint's `llm.deadline_ms`."""
    explain: bool = False
    """Add what each stage proposed."""


class EventBody(Body):
    event_id: Id
    """Chosen by the sender; sending it again changes nothing."""
    user_id: Id
    item_id: Id
    kind: Literal["like", "view"] = "like"
    """A like joins the history; a view only hides the item."""
    scenario: Id | None = None
    """Name or number of the surface that it happened on; without it, a like counts as one on the
    surface of the request that reads it."""


class EventsBody(Body):
    events: Annotated[list[EventBody], Field(min_length=1, max_length=1000)]


class BundleBody(Body):
    bundle: Uri | None
    """Bundle inside a root of the endpoint: a path or URI that every node can read. For variant b
    null ends the comparison."""
    variant: Variant = "a"
    """a replaces the bundle in use; b serves beside it, to a share of the users."""
    share: Share | None = None
    """Share of the users that get variant b."""


@dataclass(frozen=True, slots=True)
class EventsAccepted:
    stored: int
    """How many of the events were new."""


@dataclass(frozen=True, slots=True)
class EventsDeleted:
    deleted: int
    """How many stored events the user had."""


@dataclass(frozen=True, slots=True)
class CatalogueAnswer(Catalogue):
    topology: str
    """`fused`: one process runs all stages; `split`: each stage is a deployment."""
    modes: list[Mode]
    """Modes that this endpoint offers."""


@dataclass(frozen=True, slots=True)
class BundleState:
    bundle: str
    """Version that is planned as variant a."""
    uri: str
    """Where that version lives."""
    candidate: str | None
    """Version that is planned as variant b."""
    candidate_uri: str | None
    """Where that version lives."""
    share: float
    """Share of the users that get variant b."""
    previous: str | None
    """Version that stays loaded: going back to it is instant."""
    switched: int
    """Replicas known to answer with these versions."""
    behind: int
    """Replicas that could not load them and answer with others."""
    unknown: bool
    """Whether the other replicas could not be asked; they look at the plan every second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    status: Literal["ok", "behind"]
    """`behind`: this replica cannot load the planned version and answers with another one."""
    bundle: str
    """Version that answers as variant a."""
    planned: str
    """Version that all replicas were told to answer with as variant a."""
    topology: str


@dataclass(frozen=True, slots=True)
class FieldError:
    field: str
    """Field of the body, such as `events.0.item_id`, or what else the request lacks."""
    message: str


@dataclass(frozen=True, slots=True)
class Errors:
    errors: list[FieldError]


def schema_of(wire: type, *, closed: bool = False) -> TypeAdapter[Any]:
    """Schema of a body or an answer.

    Args:
        closed: answers may have no field beyond those of their class. The published schema is
            open, as a client should accept fields that a later version adds.
    """
    if issubclass(wire, BaseModel):
        return TypeAdapter(wire)
    extra: Literal["forbid"] | None = "forbid" if closed else None
    config = ConfigDict(use_attribute_docstrings=True, extra=extra)
    return TypeAdapter(with_config(config)(wire))


def parse(model: type[B], body: bytes) -> B:
    """The body as that model; a Refusal names the first wrong fields, as `events.0.item_id`."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        rows = error.errors(include_url=False, include_input=False, include_context=False)
        told = [(_field_of(row["loc"]), row["msg"]) for row in rows[:MAX_ERRORS]]
        raise Refusal(422, *told) from None


async def parse_long(model: type[B], body: bytes) -> B:
    """As `parse`, in a thread of its own if the body is long: others are answered meanwhile."""
    if len(body) <= BODY_BYTES:
        return parse(model, body)
    return await asyncio.to_thread(parse, model, body)


def refusal_of(error: RequestError) -> Refusal:
    """The HTTP answer to a request that cannot be answered."""
    return Refusal(422, (error.field, error.message))


def _field_of(location: tuple[str | int, ...]) -> str:
    return ".".join(map(str, location)) or "body"
