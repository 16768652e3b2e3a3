"""Event logs by short name."""

EVENT_LOGS = {
    "memory": "bus.event_logs.memory:MemoryEventLog",
    "postgres": "bus.event_logs.postgres:PostgresEventLog",
    "sqlite": "bus.event_logs.sqlite:SqliteEventLog",
}
