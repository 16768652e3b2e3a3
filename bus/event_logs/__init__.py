"""Event logs by short name."""
