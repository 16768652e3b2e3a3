"""Sandboxes by short name, best first; beside them what they share: seccomp, launcher, usage, interpreter."""

SANDBOXES: dict[str, str] = {
    "bwrap": "agents.sandboxes.bubblewrap:BubblewrapSandbox",
}
