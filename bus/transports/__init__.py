"""Transports by short name."""

TRANSPORTS = {
    "memory": "bus.transports.memory:MemoryTransport",
}
"""For `bus.lookup.load`: nothing is imported before it is used."""
