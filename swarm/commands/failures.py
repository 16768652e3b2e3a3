"""Errors as people and programs read them, and the exit status of each.

0 accepted, or nothing wrong found · 1 not accepted · 2 bad usage or a bad scenario · 3 a part that we need is missing ·
130 stopped by a person · 70 a bug of ours, with its traceback.
"""

import json
import os
import sys
import traceback
from dataclasses import dataclass

from swarm.errors import Fault, ScenarioError
from swarm.raised import first_that_counts, meaning_of
from swarm.views.terminal import note, say, shown

BAD, MISSING, BUG, STOPPED = 2, 3, 70, 130


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong: the objects that `--json` prints, the text for people, the exit status."""

    status: int
    errors: tuple[dict[str, object], ...]
    text: str


def failure_of(error: BaseException) -> Failure:
    """Return what to say about an error."""
    found = first_that_counts(error)
    if isinstance(found, ScenarioError):
        return Failure(BAD, tuple(dict(fault.as_dict()) for fault in found.faults), str(found))
    meaning = meaning_of(found)
    if meaning is None:
        return _bug(error)
    told = (_plain(meaning.kind, meaning.reason, meaning.remedy),)
    return Failure(MISSING if meaning.missing else BAD, told, f"swarm: {meaning.text}")


def tell(error: BaseException, *, as_json: bool) -> int:
    """Print what went wrong and return the exit status."""
    failure = failure_of(error)
    if as_json:
        found = {"error": failure.errors[0], "errors": failure.errors}
        say(json.dumps(found))  # in ASCII: JSON in any encoding, whatever bytes an argument was of
    if not as_json or failure.status == BUG:
        note(shown(failure.text))
    return failure.status


def _plain(kind: str, message: str, hint: str) -> dict[str, object]:
    return {
        "kind": kind,
        **{key: value for key, value in Fault("value", message, hint=hint).as_dict().items() if key != "kind"},
    }


def _bug(error: BaseException) -> Failure:
    told = "".join(traceback.format_exception(error))
    home = os.environ.get("SWARM_HOME") or ".swarm"
    text = (
        f"{told}\nswarm: this is a bug in swarm itself, not in what you gave it. "
        f"Please report it with the lines above. What was recorded is safe in {home}/log.db; `swarm runs` shows it."
    )
    message = f"{type(error).__name__}: {error}"
    return Failure(
        BUG, (_plain("bug", message, f"The traceback is on standard error; the log is {home}/log.db."),), text
    )


def quiet_broken_pipe() -> int:
    """Let go of a standard output that nobody reads any more, so that nothing complains at exit."""
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a device, not a path of ours
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    return 128 + 13
