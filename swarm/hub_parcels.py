"""Payloads of a hub that are too large to travel: they lie with it, and those they are for may fetch them."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from bus import topics
from bus.errors import NotFound
from swarm.file_rights import run_watchers
from swarm.shelf import Shelf


@dataclass(frozen=True, slots=True)
class HubParcels:
    """Meets `bus.parcels.Parcels`, over the shelves by which agents and clients fetch and bring."""

    hub: str
    agents: Shelf
    clients: Shelf | None = None

    async def put(self, topic: str, payload: bytes) -> Mapping[str, JsonValue]:
        """Keep a payload, for those who read the topic. Raises `NotFound` for one that nobody could fetch."""
        address = topics.parse(topic)
        match address.kind:
            case "agent_request" | "agent_control":
                shelf, who = self.agents, address.agent
            case "client_answer" if self.clients is not None:
                shelf, who = self.clients, address.client
            case "run_event" | "run_outcome" if self.clients is not None:
                shelf, who = self.clients, run_watchers(address.run)
            case _:
                raise NotFound(f"a payload of {len(payload):,} bytes on {topic!r} is too large: nobody could fetch it")
        sha256 = await shelf.keep_parcel(who, payload)
        claim: dict[str, JsonValue] = {"sha256": sha256, "bytes": len(payload), "hub": self.hub}
        return claim | ({"run": address.run} if address.run and shelf is self.clients else {})

    async def get(self, topic: str, claim: Mapping[str, JsonValue]) -> bytes:
        """Return what an agent or a client has brought and claims. Raises `NotFound` for anything else."""
        address = topics.parse(topic)
        if address.kind == "hub_reply":
            return await self.agents.parcel(address.agent, str(claim.get("lease")), str(claim["sha256"]))
        if address.kind == "submission" and self.clients is not None:
            return await self.clients.parcel(address.client, str(claim.get("run")), str(claim["sha256"]))
        raise NotFound(f"nothing is claimed on {topic!r}")
