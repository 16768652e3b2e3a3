"""Tools by short name."""
