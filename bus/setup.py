"""A scenario as resolved: all that a run is started with, in numbers and names the rules work on.

`swarm/scenario/model.py` makes a `Setup` from a file; `GoalSubmitted` records it; `resume` reads it back from there.
Secrets and environment values stand in it by name only.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

Criterion = dict[str, JsonValue]
"""One entry of `accept`, such as `{"file": "report.md"}`; `agents/check.py` gives it meaning."""


class Value(BaseModel):
    """Base of every frozen value that is written to the log."""

    # JSON has no NaN and no infinity: they are refused here, not written as null.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class FileRef(Value):
    """A file by its path in the tree (relative, `/` between parts) and its content's SHA-256 (hex)."""

    path: str
    sha256: str
    bytes: int


class FileChange(Value):
    """What became of one file; `base` is what it was, `sha256` what it is, None where it is not there."""

    path: str
    base: str | None
    sha256: str | None
    bytes: int


class Subtask(Value):
    """One node of a plan."""

    id: str
    role: str
    instruction: str
    needs: tuple[str, ...] = ()
    accept: tuple[Criterion, ...] = ()


class Price(Value):
    """What a token costs, in picodollars (10^-12 USD) a token: USD a million tokens times 10^6. Exact integers."""

    input: int
    output: int
    cached: int


class RoleSetup(Value):
    """One role of a run. `tools` are granted names; `price` is None where it is not known."""

    model: str
    about: str = ""
    """What it is for, in one line: planners choose by it."""
    tools: tuple[str, ...] = ()
    agents: int = 8
    max_tokens: int = 4096
    dialogue: Literal["native", "json"] = "native"
    prompt: str | None = None
    """The text that replaces the role's own prompt."""
    uses: str | None = None
    options: dict[str, JsonValue] = {}
    """Keyword arguments of the role's class (`with:` in the file)."""
    window: int | None = None
    """Tokens of the model's context window, where known."""
    temperature: float | None = None
    timeout_ms: int = 120_000
    """How long one try of a model call may take."""
    deadline_ms: int = 600_000
    """Running time one attempt may take."""
    price: Price | None = None


class Limits(Value):
    """Hard limits of a run; `money` in picodollars, None for none; `time_ms` of running time."""

    time_ms: int = 1_800_000
    tokens: int = 200_000
    money: int | None = None
    rounds: int = 3
    attempts: int = 3
    subtasks: int = 24
    parallel: int = 8
    calls: int = 64


class Permissions(Value):
    """Where a run may reach. `fetch`: `public`, `none`, or hosts; `private_hosts`: exact `host:port`."""

    fetch: Literal["public", "none"] | tuple[str, ...] = "public"
    private_hosts: tuple[str, ...] = ()
    sandbox: tuple[str, ...] = ()


class Endpoint(Value):
    """A Chat Completions endpoint; `key` is the name of an environment variable."""

    url: str
    key: str | None = None


class Setup(Value):
    """A whole scenario, resolved."""

    name: str
    goal: str
    roles: dict[str, RoleSetup]
    accept: tuple[Criterion, ...] = ()
    plan: tuple[Subtask, ...] | None = None
    limits: Limits = Limits()
    permissions: Permissions = Permissions()
    endpoints: dict[str, Endpoint] = {}
    inputs: dict[str, str] = {}
    outcome: tuple[str, ...] = ()
    """Glob patterns of the files handed over; empty: all that is new or changed."""
    sandbox: str | None = None
    """The sandbox to use; None: the best that works."""
    python: str | None = None
    """The interpreter of the sandbox; None: ours."""
    folder: str = "."
    """Where the scenario file lies: relative `uses:` and tool files are found from here."""
