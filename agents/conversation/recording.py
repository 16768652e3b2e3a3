"""What a log knows to answer: each request that a model was asked, and what came of it. Pure.

A request is known by the role that asks, its messages and the names of its tools; not by the model's name, the attempt
or the sampling, which may well be others. What differs from run to run without meaning anything (how long a test took,
an address in memory, the time of day) is not compared in what tools and users say.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from agents.canonical import canonical_json, sha256_hex
from agents.conversation.difference import as_text, common, difference
from agents.conversation.requests import Requests, WholeRequest
from bus.envelope import Envelope
from bus.events import (
    GoalSubmitted,
    Message,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    Path,
    Request,
    RunForked,
    role_of,
)
from bus.setup import RoleSetup

KEPT = (GoalSubmitted, *Request.__args__, ModelAsked, ModelAnswered, ModelTryFailed)
"""The events of a log that a recording needs."""

_VARIES = re.compile(
    r"\b\d+\.\d+ ?(?:ms|s|sec|secs|seconds?)\b"
    r"|\b0x[0-9a-fA-F]{6,16}\b"
    r"|\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"
)
_LOOKED_AT = 64
"""Recorded requests that are compared in full to find the nearest."""


@dataclass(slots=True)
class Known:
    """One recorded request and what came of it; failed tries that were followed by another do not count."""

    role: str
    name: str
    """Id of the request to the role, such as `plan-1`."""
    request: WholeRequest
    outcome: ModelAnswered | ModelTryFailed
    used: bool = False


class Recording:
    """Answers from one log, or from several in a row; each answer is given once, in the order of the log.

    Raises `ValueError` for a log whose requests cannot be put together.
    """

    def __init__(self, log: Iterable[Envelope]) -> None:
        self.roles: dict[str, RoleSetup] = {}
        """How each role was set up, as recorded last."""
        self._known: list[Known] = []
        self._alike: dict[str, list[Known]] = {}
        for known in _known_in(log, self.roles):
            self._known.append(known)
            asked = known.request.asked
            self._alike.setdefault(_alike(known.role, known.request.messages, asked.tools), []).append(known)

    def take(
        self, role: str, messages: Sequence[Message], tools: Sequence[str]
    ) -> ModelAnswered | ModelTryFailed | None:
        """Return what came of a request, the next where it was asked several times; None where it is not known."""
        unused = [known for known in self._alike.get(_alike(role, messages, tools), ()) if not known.used]
        if not unused:
            return None
        found = next((known for known in unused if [*known.request.messages] == [*messages]), unused[0])
        found.used = True
        return found.outcome

    def pass_over(self, log: Iterable[Envelope]) -> None:
        """Take out the answers that a log was given: what is asked next is answered as it was after them."""
        for known in _known_in(log, {}):
            self.take(known.role, known.request.messages, known.request.asked.tools)

    def missing(self, log: Iterable[Envelope], roles: Collection[str]) -> set[tuple[str, int]]:
        """Return the attempts of a log in which one of these roles was answered what is not known here.

        An attempt is (request id, attempt). The answers that are known are taken out.
        """
        found = set()
        for known in _known_in(log, {}):
            asked = known.request.asked
            if known.role in roles and self.take(known.role, known.request.messages, asked.tools) is None:
                found.add((known.name, asked.attempt))
        return found

    def why_not(self, role: str, messages: Sequence[Message], tools: Sequence[str]) -> str:
        """Say, of a request that is not known, which recorded one is nearest and how they differ."""
        alike = self._alike.get(_alike(role, messages, tools))
        if alike:
            times = "once" if len(alike) == 1 else f"{len(alike)} times"
            return f"it was asked {times} when it was recorded ({_place(alike[-1])}), and is asked once more now"
        of_role = [known for known in self._known if known.role == role]
        if not of_role:
            others = ", ".join(sorted({known.role for known in self._known})) or "none"
            return f"it holds no request of that role (it has roles: {others})"
        nearest = _nearest(of_role, messages)
        told = difference([*map(_steady, nearest.request.messages)], [*map(_steady, messages)])
        if not told:
            had, has = (", ".join(names) or "none" for names in (nearest.request.asked.tools, tools))
            told = f"the messages are the same, the tools are not: recorded {had}; now {has}"
        return f"the nearest of {len(of_role)} that it holds of that role is in {_place(nearest)}; {told}"


def _known_in(log: Iterable[Envelope], roles: dict[str, RoleSetup]) -> Iterable[Known]:
    """Yield what a log knows, in the order in which it was answered; note in `roles` how they were set up."""
    requests = Requests()
    asked: dict[tuple[str, int, Path], WholeRequest] = {}
    asked_of: dict[str, str] = {}
    begun: dict[str, str] = {}
    """By a fork's id: the run that its log begins with, for an attempt that was under way goes on in the fork."""
    for envelope in log:
        event, run = envelope.event, envelope.correlation_id
        if isinstance(event, RunForked):
            begun[run] = begun.get(event.parent, event.parent)
        request = f"{begun.get(run, run)} {envelope.subject or ''}"
        if isinstance(event, GoalSubmitted | RunForked):
            roles.update(event.setup.roles)
        elif isinstance(event, Request):
            asked_of[request] = role_of(event)
        elif isinstance(event, ModelAsked):
            made = requests.take(event, request)
            if made is not None:
                asked[request, event.attempt, event.path] = made
        elif isinstance(event, ModelAnswered) or (isinstance(event, ModelTryFailed) and event.wait_ms is None):
            requests.take(event, request)
            whole = asked.pop((request, event.attempt, event.path), None)
            if whole is not None:
                who = asked_of.get(request) or envelope.source.rpartition("/")[2]
                yield Known(who, envelope.subject or "", whole, event)


def _alike(role: str, messages: Sequence[Message], tools: Sequence[str]) -> str:
    """Return what requests have in common that are taken for the same."""
    return sha256_hex(canonical_json([role, sorted(tools), [_steady(message) for message in messages]]))


def _steady(message: Message) -> Message:
    """Return a message without what varies from run to run; instructions and what the model said are as they are."""
    content = message.get("content")
    if message.get("role") not in {"user", "tool"} or not isinstance(content, str):
        return message
    return {**message, "content": _VARIES.sub("~", content)}


def _nearest(known: Sequence[Known], messages: Sequence[Message]) -> Known:
    """Return what has most in common: messages from the beginning on, then words of the one that differs.

    Of two that are as near it is the one that is not asked any more.
    """
    steady = [*map(_steady, messages)]
    scored = [(common([*map(_steady, one.request.messages)], steady), one) for one in known]
    most = max(score for score, _ in scored)
    best = [one for score, one in scored if score == most][:_LOOKED_AT]

    def words(of: Sequence[Message]) -> set[str]:
        return set(as_text(of[most] if most < len(of) else None).split())

    wanted = words(messages)

    def likeness(one: Known) -> float:
        has = words(one.request.messages)
        return len(has & wanted) / max(len(has | wanted), 1) - abs(len(one.request.messages) - len(messages)) / 1_000

    return max(best, key=lambda one: (likeness(one), not one.used))


def _place(known: Known) -> str:
    return f"{known.name or 'its log'}, attempt {known.request.asked.attempt}"
