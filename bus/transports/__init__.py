"""Transports by short name."""
