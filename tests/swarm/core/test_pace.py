"""Who is given the next request, by how long each took for those before."""

from collections import Counter

import pytest

from bus.envelope import Envelope
from bus.events import (
    AgentJoined,
    AgentLeft,
    Event,
    GoalSubmitted,
    ResultSubmitted,
    ReviewGiven,
    SubtaskAssigned,
    WorkFailed,
)
from bus.setup import Limits, Subtask
from swarm.core.apply import apply
from swarm.core.decide import decide
from swarm.core.state import RunState
from tests.support.simulation import Simulation, setup_of


def new(name: str) -> Subtask:
    return Subtask(id=name, role="coder", instruction="do it")


def test_what_was_begun_is_finished_before_anything_new_begins() -> None:
    accept = ({"file": "a.txt"},)
    plan = (Subtask(id="a", role="coder", instruction="do it", accept=accept), *(new(name) for name in "bc"))
    run = Simulation(setup_of(limits=Limits(parallel=1), plan=plan), seed=1)
    run.send(GoalSubmitted(setup=run.setup))
    for role in ("coder", "critic"):
        run.send(AgentJoined(agent=f"u/{role}", roles=(role,), slots=4))

    def reply(event: Event) -> str:
        ((lease, work),) = run.state.leases.items()
        run.send(event, work.request, lease)
        ((_, now),) = run.state.leases.items()
        return now.request

    assert reply(ResultSubmitted(text="one")) == "review-a-1"
    assert reply(ReviewGiven(accepted=False, feedback="no")) == "a"
    assert reply(WorkFailed(reason="it broke", kind="error")) == "a"
    assert reply(ResultSubmitted(text="two")) == "review-a-3"
    assert reply(ReviewGiven(accepted=True, feedback="yes")) == "b"


class Played:
    """A run of equal subtasks, in which each agent takes its own time."""

    def __init__(
        self, subtasks: int, takes_ms: dict[str, int], *, slots: int = 1, parallel: int = 64, agents: int = 64
    ) -> None:
        plan = tuple(new(f"s{number}") for number in range(subtasks))
        limits = Limits(subtasks=subtasks, parallel=parallel)
        self.state = RunState("run")
        self.takes_ms = takes_ms
        self.now = 0
        self.at_work: dict[str, tuple[int, str, str]] = {}
        """Lease -> when it is done, who has it, what it is."""
        self.given: Counter[str] = Counter()
        self._record(GoalSubmitted(setup=setup_of(limits=limits, plan=plan, agents=agents)))
        for agent in takes_ms:
            self.tell(AgentJoined(agent=agent, roles=("coder",), slots=slots))

    def tell(self, event: Event, subject: str | None = None, cause: str | None = None) -> None:
        self._record(event, subject, cause)
        while (decision := decide(self.state)) is not None:
            self._record(decision.event, decision.subject, decision.cause)

    def play(self, until_ms: int = 1_000_000) -> None:
        while self.at_work and min(self.at_work.values())[0] <= until_ms:
            lease, (self.now, _, subject) = min(self.at_work.items(), key=lambda one: one[1])
            del self.at_work[lease]
            self.tell(ResultSubmitted(text="done"), subject, lease)

    def _record(self, event: Event, subject: str | None = None, cause: str | None = None) -> None:
        position = self.state.position + 1
        envelope = Envelope(
            f"e{position}", "/test", event, "run", "2026-01-01T00:00:00Z", subject, cause, position, self.now
        )
        apply(self.state, envelope)
        if isinstance(event, SubtaskAssigned):
            self.given[event.agent] += 1
            self.at_work[envelope.id] = self.now + self.takes_ms[event.agent], event.agent, subject or ""


def test_a_slow_agent_is_given_less_and_nobody_waits_for_it_at_the_end() -> None:
    played = Played(60, {"a/slow": 500, "a/1": 100, "a/2": 100, "a/3": 100})
    played.play()
    assert played.given.total() == 60
    assert played.given["a/slow"] <= 4
    assert played.now <= 2_000, "work / agents is 1500: three agents of four do nearly all of it"


def test_of_free_agents_a_slow_one_is_not_chosen_though_it_has_the_most_room() -> None:
    played = Played(40, {"a/slow": 300, "a/quick": 100}, slots=4, parallel=4)
    played.play()
    assert played.given.total() == 40
    assert played.given["a/slow"] <= 8, "those before anybody knew"


@pytest.mark.parametrize(("subtasks", "to_the_slow"), [(5, 1), (6, 2)])
def test_a_slow_one_is_given_what_the_quick_one_would_not_have_done_sooner(subtasks: int, to_the_slow: int) -> None:
    """At 250 ms the quick one has done two and is at its third: of two that wait it would end the second at 500 ms."""
    played = Played(subtasks, {"a/slow": 250, "a/quick": 100})
    played.play()
    assert played.given["a/slow"] == to_the_slow


def test_of_a_role_no_more_are_at_work_at_once_than_the_scenario_says() -> None:
    played = Played(7, {"a/1": 100, "a/2": 100}, slots=4, agents=2)
    assert len(played.at_work) == 2
    played.play()
    assert (played.given.total(), played.now) == (7, 400)


def test_where_only_slow_ones_are_left_they_do_it() -> None:
    played = Played(9, {"a/slow": 900, "a/quick": 100})
    played.play(1_000)
    played.tell(AgentLeft(agent="a/quick", why="it was killed"))
    played.at_work = {lease: one for lease, one in played.at_work.items() if one[1] != "a/quick"}
    played.play()
    assert played.state.all_accepted
