"""The four roles that are always there."""
