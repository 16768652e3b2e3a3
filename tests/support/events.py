"""Hypothesis strategies for events and envelopes, made from the models' own annotations."""

import types
from typing import Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue

from bus.envelope import Envelope
from bus.event_log import Owner
from bus.events import EVENTS, Fact, NoProgressNoticed

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers(),
    bool: st.booleans(),
    float: FLOATS,
    type(None): st.none(),
    JsonValue: JSON,
}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Return what generates values of an annotation of our models."""
    if annotation in SCALARS:
        return SCALARS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return st.builds(annotation, **{name: values(it.annotation) for name, it in annotation.model_fields.items()})
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return st.one_of([values(each) for each in inner])
    if origin is tuple:
        return st.lists(values(inner[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=3)
    raise TypeError(f"no strategy for {annotation!r}")


def envelopes() -> st.SearchStrategy[Envelope]:
    """Return what generates envelopes around events of every class."""
    return st.builds(
        Envelope,
        id=NAMES,
        source=NAMES,
        event=st.one_of([values(kind) for kind in EVENTS.values()]),
        correlation_id=NAMES,
        time=NAMES,
        subject=st.none() | NAMES,
        causation_id=st.none() | NAMES,
        sequence=st.integers(0, 10**18 - 1),
        elapsed_ms=st.integers(0, 10**18 - 1),
        traceparent=st.none() | NAMES,
        label=st.none() | NAMES,
    )


OWNER = Owner("host-a", 100, "boot-1")
RIVAL = Owner("host-b", 200, "boot-2")


def record(position: int, event: Fact | None = None, *, run: str = "run") -> Envelope:
    """Return an envelope that may stand at a position of a run's log."""
    event = event or NoProgressNoticed(what="call", detail=f"{run} {position}")
    return Envelope(f"{run}-{position}", "/swarm/hub/1", event, run, "2026-01-01T00:00:00Z", sequence=position)


def records(first: int, last: int, *, run: str = "run") -> list[Envelope]:
    """Return envelopes for the positions first … last."""
    return [record(position, run=run) for position in range(first, last + 1)]
