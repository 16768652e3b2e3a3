"""What strikes whom, and when: drawn until the weather is over; then everything is made whole again."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from bus import topics
from bus.envelope import Envelope
from bus.events import ModelAnswered, RunPaused, Usage
from bus.simulation.disk import DiskFaults
from bus.transport import Message
from swarm.simulation.processes import AgentProcess, HubProcess, Process
from swarm.simulation.world import World


class Weather:
    """The strikes of one world."""

    def __init__(self, world: World, hubs: Sequence[HubProcess], agents: Sequence[AgentProcess]) -> None:
        self._world = world
        self._hubs = hubs
        self._agents = agents
        self._chance = world.chance

    async def run(self) -> None:
        """Strike until it is over."""
        world, faults = self._world, self._world.faults
        ends = world.loop.time() + faults.for_s
        while faults.strikes and faults.strike_s:
            wait_s = self._chance.expovariate(1 / faults.strike_s)
            if world.loop.time() + wait_s >= ends:
                break
            await asyncio.sleep(wait_s)
            self._strike(self._chance.choice(faults.strikes), ends)
        await asyncio.sleep(max(0.0, ends - world.loop.time()))
        self._calm()

    def _calm(self) -> None:
        """Make everything whole."""
        world = self._world
        world.note("all is calm")
        network, disk = world.faults.network, world.faults.disk
        world.broker.faults = replace(network, lost=0.0, doubled=0.0, overtaken=0.0, queue=max(1000, network.queue))
        world.disk.faults = DiskFaults(delay_s=disk.delay_s)
        world.disk.down_until = min(world.disk.down_until, world.loop.time())
        world.outside.away_until = 0.0
        world.outside.faults = 0.0
        if not world.broker.up:
            world.broker.restart(keeps_words=False)
        world.broker.reachable_again()
        for one in [*self._hubs, *self._agents]:
            world.loop.thaw(one.key)
            one.wanted = True
            one.start()

    def _strike(self, what: str, ends: float) -> None:  # noqa: C901 - one case a kind of strike
        world, chance = self._world, self._chance
        part, _, how = what.partition(" ")
        for_s = min(chance.choice((0.3, 2.0, 6.0, 12.0, 40.0)) * chance.uniform(0.5, 1.5), ends - world.loop.time())
        whom = ""
        match part, how:
            case "broker", _:
                if not world.broker.up:
                    return
                world.broker.crash()
                keeps = chance.random() < 0.5  # noqa: PLR2004 - a coin
                world.later(for_s / 2, self._broker_back, keeps)
            case "disk", _:
                world.disk.down_until = world.loop.time() + for_s
            case "endpoint", _:
                world.outside.away_until = world.loop.time() + for_s
            case "run", _:
                for hub in self._hubs:
                    if hub.alive and hub.hub is not None and not world.loop.is_frozen(hub.key):
                        for running in hub.hub.runs.values():
                            running.orchestrator.tell(RunPaused(reason="stopped by a person", kind="person"))
            case "reply", _:
                self._forge()
            case (("agent" | "hub"), _):
                parts: Sequence[Process] = self._agents if part == "agent" else self._hubs
                able = [one for one in parts if one.alive and one.transport is not None]
                if not able:
                    return
                one = chance.choice(able)
                whom = one.key
                self._strike_one(one, how, for_s)
        world.counts[what] += 1
        world.note(f"{what} {whom} for {for_s:.1f} s")

    def _strike_one(self, one: Process, how: str, for_s: float) -> None:
        world = self._world
        match how:
            case "killed":
                one.wanted = False
                one.kill(seen=self._chance.random() < 0.7)  # noqa: PLR2004 - most machines outlive a process
                world.later(for_s * self._chance.choice((0.1, 1.0)), self._back, one)
            case "frozen":
                one.freeze(for_s)
            case "cut off":
                world.broker.fall_silent(one.client, for_s)
            case "reset":
                world.broker.reset(one.client)
            case "drained":
                one.wanted = False
                drain = getattr(one, "drain", None)
                if drain is not None and not world.loop.is_frozen(one.key):
                    world.spawn(one.key, drain())
                world.later(for_s, self._back, one)

    def _broker_back(self, keeps_words: bool) -> None:  # noqa: FBT001 - a callback
        if not self._world.broker.up:
            self._world.broker.restart(keeps_words=keeps_words)

    def _back(self, one: Process) -> None:
        one.wanted = True
        one.start()

    def _forge(self) -> None:
        """Say something on a lease that is another's: as an agent that lies, or one that is mistaken."""
        world, chance = self._world, self._chance
        state = world.state() if world.watch.log else None
        if state is None or not state.leases:
            return
        lease, work = chance.choice(list(state.leases.items()))
        liars = [one for one in self._agents if one.agent != work.agent and one.alive and one.transport]
        if not liars:
            return
        liar = chance.choice(liars)
        event = ModelAnswered(attempt=work.attempt, path=(0,), number=1, text="a lie", usage=Usage(input=1, output=1))
        known = [record for record in world.watch.log if record.subject == work.request]
        event = event.model_copy(update={"path": getattr(chance.choice(known).event, "path", (0,))})
        for hub in self._hubs:
            envelope = Envelope(
                world.new_id(), f"/swarm/agent/{liar.agent}", event, state.run, world.date(), work.request, lease,
                work.heard + 1,
            )  # fmt: skip
            world.watch.forged.add(envelope.id)
            world.spawn(liar.key, self._lie(liar, topics.hub_reply(hub.name, liar.agent, state.run), Message(envelope)))

    async def _lie(self, liar: Process, topic: str, message: Message) -> None:
        if liar.transport is not None:
            try:
                await liar.transport.publish(topic, message)
            except (RuntimeError, OSError):
                return
