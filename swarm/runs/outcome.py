"""What a run came to, as programs read it: the object that `--json` prints and `swarm.run` returns."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from bus.setup import FileRef
from swarm.core import tree
from swarm.core.doubts import is_in_doubt
from swarm.core.state import RunState, Status

PICO = 1e12
"""Picodollars a dollar."""
_MOST = 10**300
"""More is told as this: a log bounds no number, and what it came to is told of every run."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class SubtaskReport(_Frozen):
    """One subtask of the present plan. `text`: what its result says, empty where it has none."""

    id: str
    role: str
    attempts: int
    status: Status
    needs: tuple[str, ...] = ()
    text: str = ""


class Tokens(_Frozen):
    """Tokens used; `input` holds `cached`. `unproven`: counted in full because no answer came.

    `estimated`: how many of input and output no endpoint has reported.
    """

    input: int
    output: int
    cached: int
    unproven: int = 0
    estimated: int = 0


class Used(_Frozen):
    """How much of a limit is used; time in seconds, money in US dollars."""

    used: float
    limit: float


class Outcome(_Frozen):
    """What a run came to. `cost_usd` is None where a price is not known, 0 for local models."""

    run: str
    scenario: str
    outcome: Literal["accepted", "failed", "paused", "running"]
    reason: str
    folder: str | None
    files: tuple[FileRef, ...]
    """What is handed over."""
    subtasks: tuple[SubtaskReport, ...]
    model_calls: int
    tokens: Tokens
    cost_usd: float | None
    tool_calls: int
    events: int
    seconds: float
    limits: dict[str, Used] = {}
    """By the limit's name in the scenario; only those that a run adds up to."""
    deleted: tuple[str, ...] = ()
    """Files of the workspace that are gone: a folder of new and changed files cannot show it."""
    unmatched: tuple[str, ...] = ()
    """Patterns of the scenario's `outcome` that none of an ended run's files fit."""
    head: str = ""
    """The hash of its last event: kept elsewhere, it shows whether the log was changed since."""
    not_written: str = ""
    """Why its files could not be written into its folder, and what to do; empty where they were, or there is none."""

    @property
    def exit_status(self) -> int:
        """The exit status that belongs to it."""
        if self.not_written:
            return 3
        return {"accepted": 0, "failed": 1, "paused": 3, "running": 0}[self.outcome]


def outcome_of(state: RunState, *, folder: str | None = None, not_written: str = "") -> Outcome:
    """Return the outcome of a run in any state."""
    spent = state.ledger.spent
    return Outcome(
        run=state.run,
        scenario=state.setup.name if state.setup else "",
        outcome="running" if state.status == "new" else state.status,
        reason=reason_of(state),
        folder=folder,
        files=state.ended.files if state.ended else tree.outcome_files(state),
        subtasks=tuple(
            SubtaskReport(
                id=name,
                role=one.spec.role,
                attempts=one.attempts,
                status=_status(state, name),
                needs=one.spec.needs,
                text=one.result.text if one.result else "",
            )
            for name, one in state.subtasks.items()
        ),
        model_calls=spent.calls,
        tokens=Tokens(
            input=spent.input,
            output=spent.output,
            cached=spent.cached,
            unproven=spent.unproven,
            estimated=spent.estimated,
        ),
        cost_usd=round(_number(spent.money, PICO), 9) if spent.price_known else None,
        tool_calls=state.tool_calls,
        events=state.position,
        seconds=state.elapsed_ms / 1000,
        limits=_limits(state),
        deleted=tree.deleted_files(state),
        unmatched=_unmatched(state),
        not_written=not_written,
    )


def _unmatched(state: RunState) -> tuple[str, ...]:
    patterns = state.setup.outcome if state.setup and state.ended else ()
    files = state.ended.files if state.ended else ()
    return tuple(one for one in patterns if not tree.meant([one], (file.path for file in files)))


def _limits(state: RunState) -> dict[str, Used]:
    spent, limits = state.ledger.spent, state.limits
    used = {
        "time": Used(used=state.elapsed_ms / 1000, limit=_number(limits.time_ms, 1000)),
        "tokens": Used(used=_number(spent.tokens), limit=_number(limits.tokens)),
        "rounds": Used(used=state.round, limit=_number(limits.rounds)),
        "subtasks": Used(used=len(state.assigned), limit=_number(limits.subtasks)),
    }
    if limits.money is not None:
        used["money"] = Used(used=round(_number(spent.money, PICO), 9), limit=_number(limits.money, PICO))
    return used


def _number(count: int, unit: float = 1) -> float:
    return min(count, _MOST) / unit


def _status(state: RunState, name: str) -> Status:
    return Status.IN_DOUBT if is_in_doubt(state, name) else state.subtasks[name].status


def reason_of(state: RunState) -> str:
    """Return in words why the run stands where it stands."""
    if state.status == "paused" and state.paused:
        return state.paused.reason
    return state.ended.reason if state.ended else "it is running"
