"""Sandboxes by short name, best first."""
