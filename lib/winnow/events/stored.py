"""Stored values read back as events, whatever has become of them in the store."""

from collections.abc import Iterable, Sequence

from winnow.events.store import KINDS, Event, UnreadableEvents

MAX_CHARACTERS = 16_384
"""Longest value that is read: far more than the ids of an event, which have 256 characters each in
`POST /events`."""


def events_of(user_id: str, values: Iterable[object]) -> list[Event] | UnreadableEvents:
    """The user's events, in order, or an error with them if some of the values are no events.

    Args:
        values: the fields of each event as the store has them; None for what has no fields.
    """
    read = [_event_of(user_id, value) for value in values]
    events = [event for event in read if event is not None]
    if len(events) < len(read):
        return UnreadableEvents(len(read) - len(events), events)
    return events


def _event_of(user_id: str, value: object) -> Event | None:
    if not isinstance(value, Sequence) or len(value) < 3 or len(value) == 4:
        return None
    # three fields: from before events had a time and a scenario; more than five: a newer Winnow's
    event_id, item_id, kind, at, scenario = value[:5] if len(value) >= 5 else (*value, 0, None)
    texts = (event_id, item_id, "" if scenario is None else scenario)
    if not all(isinstance(text, str) for text in texts) or kind not in KINDS:
        return None
    if type(at) is not int or sum(map(len, texts)) > MAX_CHARACTERS:
        return None
    return Event(event_id, user_id, item_id, kind, at, scenario)
