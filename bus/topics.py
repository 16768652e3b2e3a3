"""Names of topics and filters, and what matches what: pure.

A topic is `swarm/v1/…`; the functions below make all that there are, `parse` takes them apart again. `<agent>` and
`<client>` are `<user>/<instance>`: the broker's user is the unit of trust, so that a broker's access list can prove who
wrote to a topic. Names are ids of letters, digits, `_` and `-`, checked wherever they enter a topic: a name with `+`,
`#` or `/` could otherwise widen a filter to what belongs to others.

Matching follows MQTT 5, section 4.7. Shared subscriptions (section 4.8) are refused: hubs choose the agent themselves.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Literal, TypeVar

ROOT = "swarm/v1"
LONGEST = 65_535
"""Bytes of UTF-8 in a topic or filter (MQTT 5, section 1.5.4)."""

_OURS = f"{ROOT}/"
_NAME = re.compile(r"[A-Za-z0-9_-]+")

Kind = Literal[
    "agent_card", "agent_request", "agent_control", "agent_files",
    "hub_card", "hub_reply", "hub_files",
    "submission", "client_answer", "client_files", "run_event", "run_outcome",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """A topic taken apart; a part that its kind does not have is empty."""

    kind: Kind
    agent: str = ""
    hub: str = ""
    run: str = ""
    client: str = ""
    event: str = ""
    """Name of an event class, such as `GoalAccepted`."""


# Names


@lru_cache(maxsize=4096)
def check_name(name: str) -> str:
    """Return the name if it may stand in a topic. Raises `ValueError`."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot stand in a topic: only letters, digits, '_' and '-' can, and at least one")
    return name


@lru_cache(maxsize=4096)
def check_agent(agent: str) -> str:
    """Return `<user>/<instance>` if it is one. Raises `ValueError`."""
    user, slash, instance = agent.partition("/")
    if not slash:
        raise ValueError(f"{agent!r} is no agent and no client: they are written 'user/instance'")
    check_name(user)
    check_name(instance)
    return agent


# Topics, for publishing and for subscribing to exactly one


def agent_card(agent: str) -> str:
    """Where an agent says what it can do (retained; cleared when it is gone)."""
    return f"{ROOT}/agent/{check_agent(agent)}/card"


@lru_cache(maxsize=4096)
def agent_request(agent: str, run: str) -> str:
    """Where a hub hands one agent a request of a run."""
    return f"{ROOT}/agent/{check_agent(agent)}/request/{check_name(run)}"


def agent_control(agent: str) -> str:
    """Where hubs tell an agent about its leases."""
    return f"{ROOT}/agent/{check_agent(agent)}/control"


def agent_files(agent: str) -> str:
    """Where a hub sends an agent the bytes it asked for."""
    return f"{ROOT}/agent/{check_agent(agent)}/files"


def hub_card(hub: str) -> str:
    """Where a hub says that it is there (retained)."""
    return f"{ROOT}/hub/{check_name(hub)}/card"


@lru_cache(maxsize=4096)
def hub_reply(hub: str, agent: str, run: str) -> str:
    """Where an agent answers a hub."""
    return f"{ROOT}/hub/{check_name(hub)}/reply/{check_agent(agent)}/{check_name(run)}"


def hub_files(hub: str, agent: str) -> str:
    """Where an agent gets and puts bytes."""
    return f"{ROOT}/hub/{check_name(hub)}/files/{check_agent(agent)}"


def submission(client: str) -> str:
    """Where a client submits runs to the hubs, and asks them about runs."""
    return f"{ROOT}/submit/{check_agent(client)}"


def client_answer(client: str) -> str:
    """Where hubs answer a client."""
    return f"{ROOT}/client/{check_agent(client)}/answer"


def client_files(client: str) -> str:
    """Where hubs send a client the bytes it asked for."""
    return f"{ROOT}/client/{check_agent(client)}/files"


@lru_cache(maxsize=4096)
def run_event(run: str, event: str) -> str:
    """Where a run's recorded events of one class are shown."""
    return f"{ROOT}/run/{check_name(run)}/event/{check_name(event)}"


def run_outcome(run: str) -> str:
    """Where a run's end stands (retained)."""
    return f"{ROOT}/run/{check_name(run)}/outcome"


# Filters


def agent_cards() -> str:
    """Match the cards of all agents."""
    return f"{ROOT}/agent/+/+/card"


def agent_requests(agent: str) -> str:
    """Match the requests of all runs to one agent."""
    return f"{ROOT}/agent/{check_agent(agent)}/request/+"


def hub_cards() -> str:
    """Match the cards of all hubs."""
    return f"{ROOT}/hub/+/card"


def run_replies(hub: str, run: str) -> str:
    """Match the replies of all agents, for one run, to one hub."""
    return f"{ROOT}/hub/{check_name(hub)}/reply/+/+/{check_name(run)}"


def hub_replies(hub: str) -> str:
    """Match the replies of all agents, for all runs, to one hub."""
    return f"{ROOT}/hub/{check_name(hub)}/reply/+/+/+"


def hub_file_calls(hub: str) -> str:
    """Match what all agents want of one hub's files."""
    return f"{ROOT}/hub/{check_name(hub)}/files/+/+"


def submissions() -> str:
    """Match the submissions of all clients."""
    return f"{ROOT}/submit/+/+"


def run_events(run: str) -> str:
    """Match a run's events of all classes."""
    return f"{ROOT}/run/{check_name(run)}/event/+"


# Back again


@lru_cache(maxsize=4096)
def parse(topic: str) -> Address:
    """Take a topic of ours apart. Raises `ValueError` for any other."""
    match topic.split("/"):
        case ["swarm", "v1", "agent", user, instance, *rest]:
            found = _agent_topic(check_agent(f"{user}/{instance}"), rest)
        case ["swarm", "v1", "hub", hub, *rest]:
            found = _hub_topic(check_name(hub), rest)
        case ["swarm", "v1", "run", run, "event", event]:
            found = Address("run_event", run=check_name(run), event=check_name(event))
        case ["swarm", "v1", "run", run, "outcome"]:
            found = Address("run_outcome", run=check_name(run))
        case ["swarm", "v1", "submit", user, instance]:
            found = Address("submission", client=check_agent(f"{user}/{instance}"))
        case ["swarm", "v1", "client", user, instance, "answer"]:
            found = Address("client_answer", client=check_agent(f"{user}/{instance}"))
        case ["swarm", "v1", "client", user, instance, "files"]:
            found = Address("client_files", client=check_agent(f"{user}/{instance}"))
        case _:
            found = None
    if found is None:
        raise ValueError(f"{topic!r} is no topic of ours (they begin with '{ROOT}/' and stand in bus/topics.py)")
    return found


def _agent_topic(agent: str, rest: list[str]) -> Address | None:
    match rest:
        case ["request", run]:
            return Address("agent_request", agent=agent, run=check_name(run))
        case ["card"]:
            return Address("agent_card", agent=agent)
        case ["control"]:
            return Address("agent_control", agent=agent)
        case ["files"]:
            return Address("agent_files", agent=agent)
    return None


def _hub_topic(hub: str, rest: list[str]) -> Address | None:
    match rest:
        case ["reply", user, instance, run]:
            return Address("hub_reply", hub=hub, agent=check_agent(f"{user}/{instance}"), run=check_name(run))
        case ["files", user, instance]:
            return Address("hub_files", hub=hub, agent=check_agent(f"{user}/{instance}"))
        case ["card"]:
            return Address("hub_card", hub=hub)
    return None


@lru_cache(maxsize=4096)
def check_incoming(topic: str) -> str:
    """Return the topic of a message that comes in. Raises `ValueError` for none, and below `ROOT` for none of ours.

    Anybody may have written it: whoever subscribes to topics of ours can take apart what it gets.
    """
    validate_topic(topic)
    if topic.startswith(_OURS):
        parse(topic)
    return topic


# Matching


def validate_topic(topic: str) -> str:
    """Return the topic if one may publish to it. Raises `ValueError` (wildcards included)."""
    _validate_text(topic)
    if "+" in topic or "#" in topic:
        raise ValueError(f"{topic!r} is a filter, not a topic: one can subscribe to '+' and '#', not publish to them")
    return topic


def validate_filter(pattern: str) -> str:
    """Return the filter if one may subscribe to it. Raises `ValueError`."""
    _validate_text(pattern)
    levels = pattern.split("/")
    if levels[0] == "$share":
        raise ValueError(f"{pattern!r} is a shared subscription; hubs choose the agent, so none is used here")
    for place, level in enumerate(levels, 1):
        if level != "+" and "+" in level:
            raise ValueError(f"{pattern!r}: '+' stands for one whole level, not for a part of {level!r}")
        if "#" in level and (level != "#" or place < len(levels)):
            raise ValueError(f"{pattern!r}: '#' stands for all levels that follow, alone and at the end")
    return pattern


def has_wildcard(pattern: str) -> bool:
    """Tell whether a valid filter can match more than the topic of its own name."""
    return "+" in pattern or "#" in pattern


def matches(pattern: str, topic: str) -> bool:
    """Tell whether a valid filter matches a valid topic (MQTT 5, section 4.7.1 and 4.7.2)."""
    wanted, levels = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False  # what a broker says of itself is only for those who ask by name
    if wanted[-1] == "#":
        del wanted[-1]
        levels = levels[: len(wanted)]  # `a/#` matches `a` as well
    return len(wanted) == len(levels) and all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))


def covers(wide: str, narrow: str) -> bool:
    """Tell whether a valid filter matches all that another one matches, as far as comparing their levels shows it."""
    return _compare(wide, narrow, both=False)


def overlap(one: str, other: str) -> bool:
    """Tell whether some topic matches both of two valid filters."""
    return _compare(one, other, both=True)


def _compare(one: str, other: str, *, both: bool) -> bool:
    """Compare level by level; `both`: a wildcard of either may stand for what the other wants."""
    mine, theirs = one.split("/"), other.split("/")
    if mine[0].startswith("$") != theirs[0].startswith("$"):
        return False  # wildcards stand for no first level that begins so (section 4.7.2)
    for place, level in enumerate(mine):
        if level == "#":
            return True
        if place == len(theirs):
            return False
        there = theirs[place]
        if there == "#":
            return both
        if level not in ("+", there) and not (both and there == "+"):
            return False
    rest = theirs[len(mine) :]
    return not rest or (both and rest == ["#"])


def _validate_text(text: str) -> None:
    if not text:
        raise ValueError("a topic has at least one character")
    if "\0" in text:
        raise ValueError(f"{text!r} contains a null character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!r} cannot be written as UTF-8") from error
    if size > LONGEST:
        raise ValueError(f"{text[:40]!r}… has {size} bytes; a topic has at most {LONGEST}")


T = TypeVar("T")


class Routes(Generic[T]):
    """Which targets a topic goes to, each once.

    A topic's route is worked out on its first use and kept: filters without wildcards are found by name, the others
    by trying each. A kept route is given up as soon as a change may concern it, and all are given up at `most`, since
    names of runs stand in topics and never end.
    """

    def __init__(self, most: int = 4096) -> None:
        self._filters: dict[T, tuple[str, ...]] = {}
        self._exact: dict[str, dict[T, None]] = {}
        self._wild: dict[T, tuple[str, ...]] = {}
        self._kept: dict[str, tuple[T, ...]] = {}
        self._most = most

    def add(self, target: T, filters: Iterable[str]) -> None:
        """Send to a new target what matches any of its filters. Raises `ValueError`; nothing has changed then."""
        self._filters[target] = checked = tuple(validate_filter(pattern) for pattern in filters)
        for pattern in checked:
            if not has_wildcard(pattern):
                self._exact.setdefault(pattern, {})[target] = None
                self._kept.pop(pattern, None)
        if wild := tuple(filter(has_wildcard, checked)):
            self._wild[target] = wild
            self._kept.clear()

    def remove(self, target: T) -> None:
        """Send nothing more to a target. Twice is the same as once."""
        for pattern in self._filters.pop(target, ()):
            if (targets := self._exact.get(pattern)) is not None:
                targets.pop(target, None)
                self._kept.pop(pattern, None)
                if not targets:
                    del self._exact[pattern]
        if self._wild.pop(target, None) is not None:
            self._kept.clear()

    def __getitem__(self, topic: str) -> tuple[T, ...]:
        """Return the targets of a topic. Raises `ValueError` for what is no topic."""
        route = self._kept.get(topic)
        return self._find(topic) if route is None else route

    def _find(self, topic: str) -> tuple[T, ...]:
        validate_topic(topic)
        found = dict(self._exact.get(topic, {}))
        found |= {target: None for target, filters in self._wild.items() if any(matches(f, topic) for f in filters)}
        if len(self._kept) >= self._most:
            self._kept.clear()
        route = self._kept[topic] = tuple(found)
        return route
