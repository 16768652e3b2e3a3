"""The rules of a run: pure functions over its events."""
