"""A run's state as bytes and back, so that nobody must fold a long log from its beginning. Pure.

A *mark* is the state at a position of the log. It is never the truth: deleted, it is made again from the log. It is
plain JSON; which classes it becomes is said here, by the annotations of `state.py`, and by nothing in the data. Written
once are the requests (that in an agent's hands are the same objects as those wanted) and what keys are made of; effects
are in it by their positions only, so an attempt with a thousand of them adds kilobytes.
"""

import dataclasses
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from swarm.core.limits import Ledger
from swarm.core.state import RunState, Work


class BadMark(ValueError):
    """These bytes are no state of ours; the log has to be folded."""


def pack(state: RunState) -> bytes:
    """Return the mark of a state."""
    shape = _shape()
    mark = shape.whole.model_construct(
        state=shape.state.take(state),
        ledger=shape.ledger.take(state.ledger),
        works=[shape.work.take(work) for work in state.works.values()],
        leases=[work.request for work in state.leases.values()],
        lost=[work.request for work in state.lost.values()],
    )
    return mark.__pydantic_serializer__.to_json(mark)


def unpack(run: str, data: bytes) -> RunState:
    """Return the state that a mark holds, as that of `run` (a fork may use its parent's). Raises `BadMark`."""
    shape = _shape()
    try:
        mark: Any = shape.whole.model_validate_json(data)
        ledger = Ledger(**shape.ledger.give(mark.ledger))
        state = RunState(run, ledger=ledger, **shape.state.give(mark.state))
        for held in mark.works:
            work = Work(**shape.work.give(held))
            state.works[work.request] = work
        for request in mark.leases:
            work = state.works[request]
            state.leases[work.lease or ""] = work
        for request in mark.lost:
            work = state.works[request]
            state.lost[work.lost or ""] = work
    except (ValidationError, KeyError) as error:
        raise BadMark(f"not a state of run {run!r} as this version knows it") from error
    return state


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """How one class lies in a mark. `pairs`: mappings whose keys are no names in JSON, and so are lists of pairs."""

    model: type[BaseModel]
    pairs: frozenset[str]

    def take(self, value: object) -> BaseModel:
        """Return a value as it is written."""
        fields: dict[str, Any] = {name: getattr(value, name) for name in self.model.model_fields}
        fields |= {name: [*fields[name].items()] for name in self.pairs}
        return self.model.model_construct(None, **fields)

    def give(self, read: BaseModel) -> dict[str, Any]:
        """Return the arguments to make the value of again."""
        fields = dict(read)
        return fields | {name: dict(fields[name]) for name in self.pairs}


@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    """A whole mark, and its parts."""

    whole: type[BaseModel]
    state: _Part
    ledger: _Part
    work: _Part


@cache
def _shape() -> _Shape:
    """Make the models from the annotations of the classes: what is added there is in the mark."""
    state = _part(RunState, without=("run", "ledger", "works", "leases", "lost"))
    ledger, work = _part(Ledger), _part(Work)
    fields: dict[str, Any] = {
        "state": state.model,
        "ledger": ledger.model,
        "works": list[work.model],  # type: ignore[name-defined]
        "leases": list[str],
        "lost": list[str],
    }
    return _Shape(create_model("Mark", __config__=_CLOSED, **fields), state, ledger, work)


_CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)


def _part(kind: type[Any], *, without: tuple[str, ...] = ()) -> _Part:
    hints = get_type_hints(kind)
    fields: dict[str, Any] = {one.name: hints[one.name] for one in dataclasses.fields(kind) if one.name not in without}
    pairs = {
        name for name, hint in fields.items() if get_origin(hint) is dict and get_origin(get_args(hint)[0]) is tuple
    }
    for name in pairs:
        key, value = get_args(fields[name])
        fields[name] = list[tuple[key, value]]  # type: ignore[valid-type]
    return _Part(create_model(kind.__name__, __config__=_CLOSED, **fields), frozenset(pairs))
