"""What follows a failed try of a model call: again, give the call up, or pause the run. Pure.

| the try was | then |
| --- | --- |
| `rate_limited` | waits as asked, then or else with full jitter up to 60 s, until the deadline; then the run pauses |
| `server` | four tries in all, with the same waits |
| `lost`, `nonsense` | one more |
| `parameter` | at once, without it |
| `too_long` | given up: the conversation is shortened, and asked anew (`agents/dialogue.py`) |
| `refused` | given up: the same call would fail again, and so would another attempt |
| `too_big` | given up |
| `unavailable` | the run pauses: a person must act |

What is `final` is given up at once, whatever its kind: a recorded failure was tried often enough when it was recorded.
Where tries are used up and no call to that endpoint had a whole answer since this call began, the endpoint is at fault,
not the call: the run pauses.
"""

from dataclasses import dataclass

from agents.model import EndpointHealth, TryFailed, TryKind

LONGEST_JITTER_S = 60.0
FIRST_JITTER_S = 2.0

_TRIES: dict[TryKind, int] = {"server": 4, "lost": 2, "nonsense": 2, "parameter": 8, "too_big": 1}


@dataclass(frozen=True, slots=True)
class Again:
    """Make another try after a wait."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Make no more tries of this call: its last failure is what it came to; `reason` holds the remedy."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    """The run pauses with exit status 3 and can be resumed; `reason` holds the remedy."""

    reason: str


def after(  # noqa: PLR0911, PLR0917  # a return for each row of the table; all that it needs, nothing kept
    failure: TryFailed,
    number: int,
    health: EndpointHealth,
    elapsed_s: float,
    deadline_s: float,
    chance: float,
    *,
    answered_before: int = 0,
) -> Again | GiveUp | Pause:
    """Return what follows a failed try.

    `number`: how many tries of this call ended with this kind, this one included. `elapsed_s` and `deadline_s`: how
    long this call has taken, and may take in all. `chance`: drawn by the caller, 0 to 1. `answered_before`:
    `health.answered` as it was when this call began.
    """
    said = f"{str(failure).rstrip('.')}. {failure.remedy}" if failure.remedy else str(failure)
    if failure.final:
        return GiveUp(said)
    match failure.kind:
        case "unavailable":
            return Pause(said)
        case "too_long" | "refused":
            return GiveUp(said)
        case "rate_limited":
            wait_s = _wait(failure, number, chance)
            if elapsed_s + wait_s < deadline_s:
                return Again(wait_s)
            return Pause(f"the rate limit outlasts the deadline ({wait_s:.0f} s more to wait): {said}")
        case "server" | "lost" | "nonsense" | "parameter" | "too_big":
            wait_s = _wait(failure, number, chance) if failure.kind == "server" else 0.0
            if number < _TRIES[failure.kind] and elapsed_s + wait_s < deadline_s:
                return Again(wait_s)
    if health.answered == answered_before:
        return Pause(f"no call to this endpoint has had a whole answer meanwhile: {said}")
    return GiveUp(said)


def _wait(failure: TryFailed, number: int, chance: float) -> float:
    """Return the wait the endpoint asks for, else full jitter: a random part of a span that doubles.

    Where it was not enough to wait as asked (an endpoint may ask for no wait at all) the longer of both.
    """
    jitter_s = chance * min(LONGEST_JITTER_S, FIRST_JITTER_S * 2.0 ** min(number - 1, 10))
    if failure.retry_after_s is None:
        return jitter_s
    return max(failure.retry_after_s, jitter_s) if number > 1 else failure.retry_after_s
