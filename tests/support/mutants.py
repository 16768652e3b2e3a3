"""Bugs planted in leases, fencing and outboxes: what a storm of simulated runs has to find."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

import bus.event_logs.memory
import swarm.core.apply
import swarm.core.leases
import swarm.orchestrator
from bus.chain import check_turn
from bus.envelope import Envelope
from bus.simulation.disk import DiskOfOne, at_once
from swarm.core import doubts
from swarm.core.admit import Admission
from swarm.orchestration.lease_keeper import LeaseKeeper, Overdue
from swarm.orchestrator import Orchestrator
from swarm.working.assignment import Assignment

Plant = Callable[[pytest.MonkeyPatch], None]


def anybody_answers(patch: pytest.MonkeyPatch) -> None:
    """What an agent says on another's lease counts."""
    admit = Orchestrator._admit

    def careless(self: Orchestrator, envelope: Envelope, agent: str | None) -> Admission:
        work = self.state.under(envelope.causation_id)
        return admit(self, envelope, (work.agent or work.lost_by) if agent and work else agent)

    patch.setattr(Orchestrator, "_admit", careless)


def any_turn(patch: pytest.MonkeyPatch) -> None:
    """What an agent says counts in whatever order it comes."""
    patch.setattr(swarm.orchestrator, "turn", lambda *_: Admission.RECORD)


def old_leases_count(patch: pytest.MonkeyPatch) -> None:
    """A lease is not lost when another is given."""
    hand_out = swarm.core.leases.hand_out

    def careless(state: Any, envelope: Envelope, event: Any) -> None:
        work = state.works[envelope.subject or ""]
        lost, by = work.lost, work.lost_by
        hand_out(state, envelope, event)
        if lost is not None:
            state.lost[lost], work.lost_by = work, by

    patch.setattr(swarm.core.leases, "hand_out", careless)


def outbox_forgets(patch: pytest.MonkeyPatch) -> None:
    """An agent keeps nothing of what it sends."""
    following = Assignment._next

    def careless(self: Assignment, event: Any) -> Envelope:
        envelope = following(self, event)
        self._outbox.clear()
        return envelope

    patch.setattr(Assignment, "_next", careless)


def outbox_forgets_what_is_not_recorded(patch: pytest.MonkeyPatch) -> None:
    """An agent forgets one message more than was recorded."""
    recorded = Assignment.recorded
    patch.setattr(Assignment, "recorded", lambda self, through: recorded(self, through + 1))


def any_epoch(patch: pytest.MonkeyPatch) -> None:
    """The log takes what an owner of yesterday writes."""

    def careless(run: str, *, owned: int | None, length: int, epoch: int, expected: int) -> None:
        check_turn(run, owned=epoch if owned is not None else None, length=length, epoch=epoch, expected=expected)

    patch.setattr(bus.event_logs.memory, "check_turn", careless)


def leases_for_ever(patch: pytest.MonkeyPatch) -> None:
    """No lease ever runs out."""

    def careless(_: LeaseKeeper) -> Iterator[Overdue]:
        return iter(())

    patch.setattr(LeaseKeeper, "overdue", careless)
    patch.setattr(LeaseKeeper, "next_due", lambda _: None)


def said_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """An append returns before it is done."""
    append = DiskOfOne.append

    async def careless(self: DiskOfOne, run: str, expected: int, epoch: int, records: Sequence[Envelope]) -> None:
        try:
            at_once(append(self, run, expected, epoch, records))
        except AssertionError:
            return

    patch.setattr(DiskOfOne, "append", careless)


def forgotten_journal(patch: pytest.MonkeyPatch) -> None:
    """An agent is not told what its forerunner has in the log."""
    brief = swarm.orchestrator.brief
    patch.setattr(swarm.orchestrator, "brief", lambda *args: replace(brief(*args), journal=()))


def no_doubts(patch: pytest.MonkeyPatch) -> None:
    """An outward call that was under way as its lease ended is simply made again."""
    patch.setattr(doubts, "lease_ended", lambda *_: None)
    hand_over = doubts.hand_over

    def careless(state: Any, work: Any) -> None:
        hand_over(state, work)
        work.settled |= {call.digest: "retry" for call in work.outward.values()}

    patch.setattr(doubts, "hand_over", careless)


MUTANTS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        anybody_answers,
        any_turn,
        old_leases_count,
        outbox_forgets,
        outbox_forgets_what_is_not_recorded,
        any_epoch,
        leases_for_ever,
        said_before_it_is_durable,
        forgotten_journal,
        no_doubts,
    )
}
