"""Checks by their key in `accept`."""
