"""A run's state as bytes and back, so that nobody must fold a long log from its beginning. Pure.

A *mark* is the state at a position of the log. It is never the truth: deleted, it is made again from the log. It is
plain JSON; which classes it becomes is said here, by the annotations of `state.py`, and by nothing in the data. Written
once are the requests (that in an agent's hands are the same objects as those wanted) and what keys are made of; effects
are in it by their positions only, so an attempt with a thousand of them adds kilobytes.
"""

import dataclasses
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from swarm.core.limits import Call, Ledger
from swarm.core.state import RunState, Work


class BadMark(ValueError):
    """These bytes are no state of ours; the log has to be folded."""


def pack(state: RunState) -> bytes:
    """Return the mark of a state."""
    shape = _shape()
    ledger = state.ledger
    mark = shape.whole.model_construct(
        state=_constructed(shape.state, state),
        ledger=_constructed(shape.ledger, ledger),
        reserved=list(ledger.reserved.values()),
        waiting=list(ledger.waiting.values()),
        works=[_constructed(shape.work, work) for work in state.works.values()],
        leases=[work.request for work in state.leases.values()],
    )
    return mark.__pydantic_serializer__.to_json(mark)


def unpack(run: str, data: bytes) -> RunState:
    """Return the state that a mark holds, as that of `run` (a fork may use its parent's). Raises `BadMark`."""
    shape = _shape()
    try:
        mark: Any = shape.whole.model_validate_json(data)
        state = RunState(run, **dict(mark.state))
        state.ledger = Ledger(**dict(mark.ledger))
        state.ledger.reserved = {call.key: call for call in mark.reserved}
        state.ledger.waiting = {call.key: call for call in mark.waiting}
        state.works = {work.request: Work(**dict(work)) for work in mark.works}
        for request in mark.leases:
            work = state.works[request]
            state.leases[work.lease or ""] = work
    except (ValidationError, KeyError) as error:
        raise BadMark(f"not a state of run {run!r} as this version knows it") from error
    return state


@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    """The models of a mark and of its parts."""

    state: type[BaseModel]
    ledger: type[BaseModel]
    work: type[BaseModel]
    whole: type[BaseModel]


@cache
def _shape() -> _Shape:
    """Make the models from the annotations of the classes: what is added there is in the mark."""
    state = _model_of(RunState, without={"run", "ledger", "works", "leases"})
    ledger = _model_of(Ledger, without={"reserved", "waiting"})
    work = _model_of(Work)
    calls = list[Call]
    whole = create_model(
        "Mark",
        __config__=_CLOSED,
        state=(state, ...),
        ledger=(ledger, ...),
        reserved=(calls, ...),
        waiting=(calls, ...),
        works=(list[work], ...),  # type: ignore[valid-type]
        leases=(list[str], ...),
    )
    return _Shape(state, ledger, work, whole)


_CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)


def _model_of(kind: type[Any], *, without: frozenset[str] | set[str] = frozenset()) -> type[BaseModel]:
    hints = get_type_hints(kind)
    fields: dict[str, Any] = {
        one.name: (hints[one.name], ...) for one in dataclasses.fields(kind) if one.name not in without
    }
    return create_model(kind.__name__, __config__=_CLOSED, **fields)


def _constructed(model: type[BaseModel], value: object) -> BaseModel:
    return model.model_construct(**{name: getattr(value, name) for name in model.model_fields})
