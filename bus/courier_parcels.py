"""Payloads of an agent or a client that are too large to travel: its courier brings and fetches them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from bus import topics
from bus.courier import Courier
from bus.errors import BadEnvelope, BusUnavailable, Refused

_CAUSE = re.compile(rb'"causationid":"([A-Za-z0-9_.:-]{1,200})"')


@dataclass(slots=True)
class CourierParcels:
    """Meets `bus.parcels.Parcels`. `under`: by what lease or run a payload is brought (`lease_of`)."""

    under: Callable[[bytes], str]
    courier: Courier | None = None
    """Set once there is a bus: the transport is made first, with this."""

    async def put(self, topic: str, payload: bytes) -> Mapping[str, JsonValue]:
        """Bring a payload to the hub of the topic.

        Raises `BusUnavailable`, also where the hub refuses it: its word on the lease follows, or what could not be said
        is said again. `BadEnvelope` for a payload under no lease.
        """
        courier = self._courier()
        hub = topics.parse(topic).hub
        under = self.under(payload)
        try:
            sha256 = await courier.bring(lambda: hub, under, payload, parcel=True)
        except Refused as error:
            raise BusUnavailable(f"a message on {topic!r} cannot be brought: {error}") from error
        return {"sha256": sha256, "bytes": len(payload), courier.route.under: under}

    async def get(self, topic: str, claim: Mapping[str, JsonValue]) -> bytes:
        """Fetch a payload from the hub that the claim names. Raises what `Courier.fetch` does, and `BadEnvelope`."""
        courier = self._courier()
        hub, under, size = claim.get("hub"), claim.get(courier.route.under, ""), claim["bytes"]
        try:
            asked = topics.check_name(str(hub))
        except ValueError as error:
            raise BadEnvelope(f"bad claim on {topic!r}: hub: {error}") from error
        if not isinstance(under, str) or not isinstance(size, int):
            raise BadEnvelope(f"bad claim on {topic!r}: {courier.route.under} and bytes: a text and a size are wanted")
        return await courier.fetch(lambda: asked, under, str(claim["sha256"]), size=size, parcel=True)

    def _courier(self) -> Courier:
        if self.courier is None:
            raise BusUnavailable("no courier is there yet that could bring or fetch a large message")
        return self.courier


def lease_of(payload: bytes) -> str:
    """Return the lease that an agent's event answers, without reading all of it. Raises `BadEnvelope` where none is.

    `data` is the last attribute that the codec writes, so that nothing a model said can stand before it.
    """
    head, data, _ = payload.partition(b'"data":')
    found = _CAUSE.search(head)
    if found is None or not data:
        raise BadEnvelope(f"a message of {len(payload):,} bytes answers no lease, and is too large without one")
    return found[1].decode("ascii")
