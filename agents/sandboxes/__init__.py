"""Sandboxes by short name, best first; parts/ what they share."""

SANDBOXES: dict[str, str] = {
    "bwrap": "agents.sandboxes.bubblewrap:BubblewrapSandbox",
}
