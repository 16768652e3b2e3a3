"""Payloads of a hub that are too large to travel: they lie with it, and those they are for may fetch them."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from bus import topics
from bus.errors import NotFound
from swarm.files.rights import run_watchers
from swarm.files.shelf import Shelf


@dataclass(frozen=True, slots=True)
class HubParcels:
    """Meets `bus.parcels.Parcels`, over the shelves by which agents and clients fetch and bring.

    Agents that share its connection, as those of `swarm run --bus` do, have theirs here, without a way over the bus.
    """

    hub: str
    agents: Shelf
    clients: Shelf | None = None

    async def put(self, topic: str, payload: bytes) -> Mapping[str, JsonValue]:
        """Keep a payload, for those who read the topic; where no clients are heard, none can fetch what watchers miss.

        Raises `NotFound` for a topic on which nobody could fetch it.
        """
        address = topics.parse(topic)
        match address.kind:
            case "agent_request" | "agent_control" | "hub_reply":
                shelf, who = self.agents, address.agent
            case "client_answer" if self.clients is not None:
                shelf, who = self.clients, address.client
            case "run_event" | "run_outcome":
                shelf, who = self.clients or self.agents, run_watchers(address.run)
            case _:
                raise NotFound(f"a payload of {len(payload):,} bytes on {topic!r} is too large: nobody could fetch it")
        sha256 = await shelf.keep_parcel(who, payload)
        claim: dict[str, JsonValue] = {"sha256": sha256, "bytes": len(payload), "hub": self.hub}
        return claim | ({"run": address.run} if address.run and shelf is self.clients else {})

    async def get(self, topic: str, claim: Mapping[str, JsonValue]) -> bytes:
        """Return what an agent or a client has brought and claims, or what is claimed to an agent of our own.

        Raises `NotFound` for anything else.
        """
        address, sha256 = topics.parse(topic), str(claim["sha256"])
        match address.kind:
            case "hub_reply" if "lease" in claim:
                return await self.agents.parcel(address.agent, str(claim["lease"]), sha256)
            case "agent_request" | "agent_control" | "hub_reply":
                return await self.agents.claimed(address.agent, sha256)
            case "submission" if self.clients is not None:
                return await self.clients.parcel(address.client, str(claim.get("run")), sha256)
            case _:
                raise NotFound(f"nothing is claimed on {topic!r}")
