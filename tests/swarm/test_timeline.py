"""An event log in words."""

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings

from bus.envelope import Envelope
from bus.events import (
    AgentJoined,
    CallRequest,
    Event,
    GoalSubmitted,
    ModelAnswered,
    PlanProposed,
    SubtaskAssigned,
    ToolReturned,
    Usage,
)
from bus.setup import Price, RoleSetup, Setup, Subtask
from swarm.views.timeline import Timeline
from swarm.views.wording import clock, doing, dollars
from tests.support.events import envelopes

SETUP = Setup(
    name="brief",
    goal="Write it.",
    roles={"coder": RoleSetup(model="a:b", price=Price(input=1000, output=2000, cached=0))},
)
JOINERS = "\u200c\u200d"
WORK = Subtask(id="facts", role="coder", instruction="List them.")


def said(event: Event, *, id_: str = "e", source: str = "/swarm/agent/local/coder", subject: str | None = "facts",
         cause: str | None = "lease", sequence: int = 1) -> Envelope:  # fmt: skip
    return Envelope(id_, source, event, "run", "2026-01-01T00:00:00Z", subject, cause, sequence, 61_500)


@given(envelopes())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happened_is_one_harmless_line(envelope: Envelope) -> None:
    told = Timeline().tell(envelope)
    line = told.line()
    assert "\n" not in line
    assert "\x1b" not in line
    assert not [char for char in line if unicodedata.category(char) in {"Cc", "Cf", "Cs"} and char not in JOINERS]
    assert len(line) < 5_000
    assert doing(envelope.event) is None or "\n" not in str(doing(envelope.event))  # type: ignore[arg-type]


def test_an_agent_that_drains_is_not_told_as_one_that_comes() -> None:
    lines = [
        Timeline().tell(said(AgentJoined(agent="host/coder-1", roles=("coder",), slots=slots))).line()
        for slots in (4, 0)
    ]
    assert "host/coder-1 joins as coder, for 4 at once" in lines[0]
    assert "host/coder-1 takes nothing more" in lines[1]


def test_an_agent_that_is_taken_for_none_of_its_roles_is_told_so() -> None:
    line = Timeline().tell(said(AgentJoined(agent="host/critic-1", roles=(), slots=4))).line()
    assert "host/critic-1 is there, and is taken for none of its roles" in line


def test_a_line_says_when_who_what_and_the_cost() -> None:
    timeline = Timeline()
    timeline.tell(said(GoalSubmitted(setup=SETUP), source="/swarm/hub/local", subject=None))
    assigned = SubtaskAssigned(subtask=WORK, attempt=1, agent="local/coder", deadline_ms=1)
    told = timeline.tell(said(assigned, id_="lease", source="/swarm/hub/local"))
    assert told.line() == "    1    1:01.5  swarm       → coder: facts, attempt 1: List them."
    usage = Usage(input=100, output=50)
    told = timeline.tell(said(ModelAnswered(attempt=1, path=(0,), number=1, text="Well.", usage=usage), sequence=12))
    assert told.line() == "   12    1:01.5  coder       facts: says: Well.  [100 + 50 tokens, <$0.0001]"


def test_why_an_attempt_is_made_again_is_told() -> None:
    event = SubtaskAssigned(subtask=WORK, attempt=2, agent="local/coder", deadline_ms=1, feedback=("no sources",))
    assert "attempt 2, because: no sources" in Timeline().tell(said(event)).what


def test_whose_plan_it_is() -> None:
    plan = PlanProposed(subtasks=(WORK, Subtask(id="b", role="coder", instruction="x", needs=("facts",))))
    assert (
        Timeline().tell(said(plan, subject="plan-1")).what == "plans 2 subtasks: facts (coder); b (coder, after facts)"
    )
    assert "the scenario's plan" in Timeline().tell(said(plan, subject=None)).what


def test_megabytes_of_output_are_cut_before_they_are_looked_at() -> None:
    event = ToolReturned(attempt=1, path=(1,), digest="d", tool="t", arguments={"a": "x" * 10**6}, output="y\n" * 10**6)
    assert len(Timeline().tell(said(event)).line()) < 1_000


def test_colour_adds_only_colour() -> None:
    answered = ModelAnswered(
        attempt=1, path=(0,), number=1, text=None, calls=(CallRequest(id="1", name="f", arguments="{}"),),
        usage=Usage(input=1, output=1),
    )  # fmt: skip
    told = Timeline().tell(said(answered))
    assert "\x1b[2m" in told.line(colour=True)
    assert "wants f({})" in told.line(colour=True)


@pytest.mark.parametrize(
    ("ms", "shown"), [(0, "0:00.0"), (59_999, "0:59.9"), (60_000, "1:00.0"), (3_661_250, "1:01:01.2")]
)
def test_running_time(ms: int, shown: str) -> None:
    assert clock(ms) == shown


@pytest.mark.parametrize(
    ("amount", "shown"), [(0, "$0.00"), (0.00001, "<$0.0001"), (0.0123, "$0.0123"), (1.5, "$1.50")]
)
def test_money(amount: float, shown: str) -> None:
    assert dollars(amount) == shown
