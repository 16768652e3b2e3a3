"""Transports by short name."""

TRANSPORTS = {
    "memory": "bus.transports.memory:MemoryTransport",
    "mqtt": "bus.transports.mqtt:MqttTransport",
    "simulated": "bus.transports.simulated:SimulatedTransport",
}
"""For `bus.lookup.load`: nothing is imported before it is used."""
