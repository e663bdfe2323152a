"""Both ends of the stage graph: requests in, answers out, and what passes between the stages.

request.py   what is asked and what is answered
query.py     a request resolved, its candidates, and what became of them
desk.py      `Desk`: the tables by id, and the live events
"""

from winnow.desk.desk import Desk
from winnow.desk.query import (
    CHANNELS,
    RECALL_CHANNELS,
    BundleMismatch,
    Candidates,
    Degradation,
    Outcome,
    Query,
    Reason,
    check_bundle,
)
from winnow.desk.request import (
    Catalogue,
    Liked,
    Mode,
    Proposal,
    Recommendation,
    RecommendRequest,
    RecommendResponse,
    RequestError,
    UserView,
)

__all__ = [
    "CHANNELS",
    "RECALL_CHANNELS",
    "BundleMismatch",
    "Candidates",
    "Catalogue",
    "Degradation",
    "Desk",
    "Liked",
    "Mode",
    "Outcome",
    "Proposal",
    "Query",
    "Reason",
    "RecommendRequest",
    "RecommendResponse",
    "Recommendation",
    "RequestError",
    "UserView",
    "check_bundle",
]
