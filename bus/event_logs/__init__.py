"""Event logs by short name."""

EVENT_LOGS = {
    "memory": "bus.event_logs.memory:MemoryEventLog",
    "sqlite": "bus.event_logs.sqlite:SqliteEventLog",
}
