"""A run without clock, network or chance of its own: agents that answer from a seed, events in any order it draws."""

import random
from collections import Counter
from dataclasses import dataclass, field

from bus.envelope import Envelope
from bus.events import (
    AgentJoined,
    AgentLeft,
    AssignmentEnded,
    CancelAsked,
    Clash,
    Event,
    GoalSubmitted,
    MergeTried,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    PlanProposed,
    PlanRequested,
    Redo,
    Request,
    ResultSubmitted,
    ReviewGiven,
    ReviewRequested,
    RunMoved,
    TimePassed,
    ToolCalled,
    ToolReturned,
    Usage,
    WorkFailed,
)
from bus.setup import FileChange, FileRef, Limits, Price, RoleSetup, Setup, Subtask
from swarm.core import meetings, tree
from swarm.core.admit import Admission, admit
from swarm.core.apply import apply
from swarm.core.decide import decide, next_deadline
from swarm.core.state import RunState

PRICE = Price(input=250_000, output=2_000_000, cached=25_000)


def setup_of(*, limits: Limits, plan: tuple[Subtask, ...] | None = None, agents: int = 64, **more: object) -> Setup:
    """Return a setup with the four roles, priced."""
    tools = {"coder": ("read_file", "write_file", "run_python"), "researcher": ("read_file",)}
    roles = {
        name: RoleSetup(
            model="test:model",
            agents=agents,
            price=PRICE,
            tools=tools.get(name, ()),
            max_tokens=400,
            deadline_ms=60_000,
        )
        for name in ("planner", "researcher", "coder", "critic")
    }
    return Setup(name="simulated", goal="reach it", roles=roles, limits=limits, plan=plan, **more)


@dataclass
class Job:
    """What one lease still has to do."""

    lease: str
    request: str
    agent: str
    event: Request
    asks: int
    path: int = 0
    number: int = 1
    effects: int = 0
    phase: str = "begin"
    max_tokens: int = 0


@dataclass
class Simulation:
    """One run, driven by a seed. `faults`: how often, of 1, something goes wrong."""

    setup: Setup
    seed: int
    faults: float = 0.2
    layers: int = 3
    width: int = 8
    workspace: tuple[FileRef, ...] = ()
    paths: int = 31
    log: list[Envelope] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.state = RunState("run")
        self.jobs: dict[str, Job] = {}
        self.ids = 0
        self.elapsed_ms = 0
        self.most_reserved = 0

    def envelope(self, event: Event, subject: str | None = None, cause: str | None = None) -> Envelope:
        self.ids += 1
        return Envelope(f"id{self.ids}", "/test", event, "run", "", subject, cause, 0, self.elapsed_ms)

    def send(self, event: Event, subject: str | None = None, cause: str | None = None) -> Admission:
        """Admit, record, decide until quiet, as the orchestrator does."""
        envelope = self.envelope(event, subject, cause)
        verdict = Admission.RECORD if self.state.status == "new" else admit(self.state, envelope)
        if verdict is Admission.RECORD:
            self._record(envelope)
            while (decision := decide(self.state)) is not None:
                self._record(self.envelope(decision.event, decision.subject, decision.cause or envelope.id))
            if (wanted := meetings.wanted(self.state)) is not None:
                assert self.send(self._tried(wanted)) is Admission.RECORD
        return verdict

    def _tried(self, wanted: meetings.Wanted) -> MergeTried:
        merged, clashes = [], []
        for met in wanted.meetings:
            if met.base and met.ours and met.theirs and self.random.random() < 0.7:
                sha256 = f"{met.base.sha256}+{met.ours.sha256}+{met.theirs.sha256}"
                merged.append(FileChange(path=met.path, base=met.theirs.sha256, sha256=sha256[:200], bytes=2))
            else:
                clashes.append(Clash(path=met.path, why="both changed it"))
        return MergeTried(subtask=wanted.subtask, attempt=wanted.attempt, merged=tuple(merged), clashes=tuple(clashes))

    def _record(self, envelope: Envelope) -> None:
        recorded = Envelope(
            envelope.id, envelope.source, envelope.event, "run", "", envelope.subject, envelope.causation_id,
            self.state.position + 1, self.elapsed_ms,
        )  # fmt: skip
        apply(self.state, recorded)
        self.log.append(recorded)
        self.check()
        event = recorded.event
        if isinstance(event, Request):
            asks = self.random.randint(1, 3)
            self.jobs[recorded.id] = Job(recorded.id, recorded.subject or "", event.agent, event, asks)

    def check(self) -> None:
        """What holds after every event."""
        ledger, limits = self.state.ledger, self.state.limits
        assert ledger.spent.tokens + ledger.reserved_tokens <= limits.tokens, "tokens passed their limit"
        assert ledger.reserved_tokens == sum(call.tokens for call in ledger.reserved.values())
        assert ledger.reserved_money == sum(call.money for call in ledger.reserved.values())
        if limits.money is not None:
            assert ledger.spent.money + ledger.reserved_money <= limits.money, "money passed its limit"
        assert len(self.state.leases) <= limits.parallel
        assert len(self.state.assigned) <= limits.subtasks
        assert self.state.round <= limits.rounds
        held = Counter(work.agent for work in self.state.leases.values())
        for agent in self.state.agents.values():
            assert agent.busy == held[agent.agent]
            assert not agent.slots or agent.busy <= agent.slots, "one that is to leave finishes what it holds"
        self.most_reserved = max(self.most_reserved, len(ledger.reserved))

    def run(self, most: int = 100_000) -> RunState:
        """Drive the run until it ends; it must."""
        self.send(GoalSubmitted(setup=self.setup, workspace=self.workspace))
        for number in range(4):
            for role in self.setup.roles:
                self.send(AgentJoined(agent=f"a{number}/{role}", roles=(role,), slots=16))
        for _ in range(most):
            if not self.state.running:
                return self.state
            self.elapsed_ms += self.random.randint(0, 20)
            self._act()
        raise AssertionError(f"seed {self.seed}: the run did not end")

    def _act(self) -> None:
        self.jobs = {lease: job for lease, job in self.jobs.items() if lease in self.state.leases}
        ready = [job for job in self.jobs.values() if self._may_go_on(job)]
        chance = self.random.random()
        if not ready or chance < 0.002 * self.faults:
            due = next_deadline(self.state)
            assert due is not None
            self.elapsed_ms = max(self.elapsed_ms, due)
            self.send(TimePassed())
            return
        if chance < 0.01 * self.faults:
            lease = self.random.choice(list(self.state.leases))
            agent = self.state.leases[lease].agent
            kind = self.random.choice(["silent", "declined", "handed_back"])
            self.send(AssignmentEnded(lease=lease, why="it was lost", kind=kind))
            if (known := self.state.agents.get(agent)) is not None:
                self.send(AgentJoined(agent=agent, roles=known.roles, slots=16))
            return
        if chance < 0.012 * self.faults:
            self.send(RunMoved(hub="other", epoch=2))
            return
        if chance < 0.014 * self.faults:
            self.send(CancelAsked(reason="nobody wants it any more"))
            return
        if chance < 0.02 * self.faults and len(self.state.agents) > 8:
            agent = self.random.choice(list(self.state.agents))
            self.send(AgentLeft(agent=agent, why="gone"))
            role = agent.partition("/")[2]
            self.send(AgentJoined(agent=f"b{self.ids}/{role}", roles=(role,), slots=16))
            return
        self._step(self.random.choice(ready))

    def _may_go_on(self, job: Job) -> bool:
        if job.phase != "asked":
            return True
        return (job.request, job.event.attempt, (job.path,), job.number) in self.state.ledger.reserved

    def _step(self, job: Job) -> None:
        match job.phase:
            case "begin" if job.asks:
                self._resume_numbers(job)
                asked = ModelAsked(
                    attempt=job.event.attempt, path=(job.path,), number=job.number, digest="d", model="test:model",
                    messages=(), input_bound=self.random.randint(50, 900), max_tokens=400,
                )  # fmt: skip
                self._effect(job, asked)
                job.phase = "asked"
            case "asked":
                self._answer(job)
            case _:
                self._reply(job)

    def _resume_numbers(self, job: Job) -> None:
        """Go on after what an earlier lease of this attempt has in the log."""
        work = self.state.leases[job.lease]
        job.effects = len(work.journal)
        journal = [self.log[position - 1] for position in work.journal.values()]
        done = {e.event.path[0] for e in journal if isinstance(e.event, ModelAnswered | ToolReturned)}
        while job.path in done:
            job.path += 1
        job.number = 1 + sum(isinstance(e.event, ModelAsked) and e.event.path == (job.path,) for e in journal)

    def _answer(self, job: Job) -> None:
        key = (job.request, job.event.attempt, (job.path,), job.number)
        call = self.state.ledger.reserved[key]
        ids = {"attempt": job.event.attempt, "path": (job.path,), "number": job.number}
        if self.random.random() < self.faults:
            unproven = self.random.random() < 0.3
            self._effect(job, ModelTryFailed(**ids, kind="server", reason="503", unproven=unproven, wait_ms=0))
            job.number += 1
        else:
            used = Usage(input=self.random.randint(0, call.input_bound), output=self.random.randint(0, call.max_tokens))
            self._effect(job, ModelAnswered(**ids, text="x", usage=used))
            job.path, job.number, job.asks = job.path + 1, 1, job.asks - 1
            if job.lease not in self.state.leases:  # its deadline has passed, or the run is over
                return
            if self.random.random() < 0.3 and job.request in self.state.subtasks:
                tool = {
                    "attempt": job.event.attempt,
                    "path": (job.path,),
                    "digest": "t",
                    "tool": "read_file",
                    "arguments": {},
                }
                if self.setup.roles[self.state.leases[job.lease].role].tools:
                    self._effect(job, ToolCalled(**tool))
                    self._effect(job, ToolReturned(**tool, output="o"))
                    job.path += 1
        job.phase = "begin"

    def _effect(self, job: Job, event: Event) -> None:
        before = self.state.position
        verdict = self.send(event, job.request, job.lease)
        assert verdict in {Admission.RECORD, Admission.ENDED}, (verdict, event)
        if verdict is Admission.RECORD:
            assert self.state.position > before
            assert self.send(event, job.request, job.lease) is not Admission.RECORD, (
                "the same effect was recorded twice"
            )
            job.effects += 1

    def _reply(self, job: Job) -> None:
        work = self.state.leases[job.lease]
        effects = len(work.journal)
        if self.random.random() < self.faults / 2:
            self.send(WorkFailed(reason="no", kind="error", effects=effects), job.request, job.lease)
        elif isinstance(job.event, PlanRequested):
            self.send(PlanProposed(subtasks=self._plan(), effects=effects), job.request, job.lease)
        elif isinstance(job.event, ReviewRequested):
            self.send(self._review(job.event, effects), job.request, job.lease)
        else:
            self.send(self._result(job, effects), job.request, job.lease)
        assert job.lease not in self.state.leases
        self.jobs.pop(job.lease, None)

    def _plan(self) -> tuple[Subtask, ...]:
        if self.random.random() < self.faults / 2:
            return (Subtask(id="a", role="nobody", instruction="x"),)
        subtasks: list[Subtask] = []
        for layer in range(self.layers):
            for number in range(self.width):
                below = [s.id for s in subtasks if s.id.startswith(f"l{layer - 1}-")]
                needs = tuple(self.random.sample(below, min(len(below), self.random.randint(0, 3))))
                accept = ({"file": "a.txt"},) if self.random.random() < 0.5 else ()
                role = self.random.choice(["coder", "researcher"])
                subtasks.append(
                    Subtask(
                        id=f"l{layer}-{number}", role=role, instruction=f"do {self.ids}", needs=needs, accept=accept
                    )
                )
        return tuple(subtasks)

    def _result(self, job: Job, effects: int) -> ResultSubmitted:
        base = tree.base_of(self.state, self.state.subtasks[job.request])
        files = []
        for _ in range(self.random.choice([0, 0, 1, 2])):
            path = f"f{self.random.randint(0, self.paths - 1)}.txt"
            here = base.get(path)
            files.append(
                FileChange(
                    path=path, base=here.sha256 if here else None, sha256=f"{self.random.randint(0, 9)}", bytes=1
                )
            )
        unique = {change.path: change for change in files}
        text = self.random.choice(["same", f"result {self.ids}"])
        return ResultSubmitted(text=text, files=tuple(unique.values()), effects=effects)

    def _review(self, request: ReviewRequested, effects: int) -> ReviewGiven:
        if self.random.random() > self.faults:
            return ReviewGiven(accepted=True, feedback="good", effects=effects)
        redo = ()
        if request.subtask is None and self.state.subtasks:
            redo = (Redo(subtask=self.random.choice(list(self.state.subtasks)), why="wrong"),)
        return ReviewGiven(
            accepted=False, feedback="not good", redo=redo if self.random.random() < 0.7 else (), effects=effects
        )
