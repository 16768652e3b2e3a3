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
    """A file by its `path` in the tree (relative, `/` between parts) and its content's SHA-256 (hex)."""

    path: str
    sha256: str
    """The hash of its content, in hex."""
    bytes: int
    """Its size."""


class FileChange(Value):
    """What became of the file at a `path`; `base` is what it was, `sha256` what it is, None where it is not there."""

    path: str
    base: str | None
    sha256: str | None
    bytes: int
    """Its new size; 0 where it is not there."""


class Subtask(Value):
    """One node of a plan."""

    id: str
    """A short name, unique in its plan."""
    role: str
    """Who does it."""
    instruction: str
    """What to do, in words."""
    needs: tuple[str, ...] = ()
    """Ids of the subtasks whose results must be accepted first."""
    accept: tuple[Criterion, ...] = ()


class Price(Value):
    """What a token costs, in picodollars (10^-12 USD) a token: USD a million tokens times 10^6. Exact integers."""

    input: int
    """A token of the prompt."""
    output: int
    """A token of the answer."""
    cached: int
    """A token of the prompt that the endpoint had kept."""


class RoleSetup(Value):
    """One role of a run. `tools` are granted names; `price` is None where it is not known."""

    model: str
    about: str = ""
    """What it is for, in one line: planners choose by it."""
    tools: tuple[str, ...] = ()
    agents: int = 8
    """How many of its requests may be worked on at once."""
    max_tokens: int = 4096
    dialogue: Literal["native", "json"] = "native"
    """How tools are called: by the endpoint's own means, or as JSON in the answer."""
    prompt: str | None = None
    """The text that replaces the role's own prompt."""
    brought: bool = False
    """Whether its code, and its tools unless some are named here, are those of the agents that offer it."""
    uses: str | None = None
    """The class of one's own, as in the scenario."""
    options: dict[str, JsonValue] = {}
    """Keyword arguments of the role's class (`with:` in the file)."""
    window: int | None = None
    """Tokens of the model's context window, where known."""
    temperature: float | None = None
    """Of the first attempt; None is the endpoint's own."""
    timeout_ms: int = 120_000
    """How long one try of a model call may take."""
    deadline_ms: int = 600_000
    """Running time one attempt may take."""
    price: Price | None = None


class Limits(Value):
    """Hard limits of a run; `money` in picodollars, None for none; `time_ms` of running time."""

    time_ms: int = 1_800_000
    tokens: int = 200_000
    """Input and output, cached included."""
    money: int | None = None
    rounds: int = 3
    """Reviews of the whole outcome."""
    attempts: int = 3
    """Tries of one subtask."""
    subtasks: int = 24
    """Ever assigned."""
    parallel: int = 8
    """Requests at work at once, over all roles."""
    calls: int = 64
    """Model calls in flight an endpoint."""


class Permissions(Value):
    """Where a run may reach. `fetch`: `public`, `none`, or hosts; `private_hosts`: exact `host:port`."""

    fetch: Literal["public", "none"] | tuple[str, ...] = "public"
    private_hosts: tuple[str, ...] = ()
    sandbox: tuple[str, ...] = ()
    """Hosts that code in the sandbox may reach; this version gives it none."""


class Endpoint(Value):
    """A Chat Completions endpoint; `key` is the name of an environment variable."""

    url: str
    """Where it is, up to `/v1`."""
    key: str | None = None


class Setup(Value):
    """A whole scenario, resolved."""

    name: str
    """The scenario's name."""
    goal: str
    """The goal, whole."""
    roles: dict[str, RoleSetup]
    """By name."""
    accept: tuple[Criterion, ...] = ()
    plan: tuple[Subtask, ...] | None = None
    """The scenario's own plan; None asks the planner."""
    limits: Limits = Limits()
    """The limits it starts with."""
    permissions: Permissions = Permissions()
    """Where it may reach."""
    endpoints: dict[str, Endpoint] = {}
    """By the name that models use as provider."""
    inputs: dict[str, str] = {}
    """By name, as text."""
    outcome: tuple[str, ...] = ()
    """Glob patterns of the files handed over; empty: all that is new or changed."""
    sandbox: str | None = None
    """The sandbox to use; None: the best that works."""
    python: str | None = None
    """The interpreter of the sandbox; None: ours."""
    written: dict[str, JsonValue] = {}
    """The scenario file's own mapping, from which a fork with changes is resolved anew."""
    folder: str = "."
    """Where the scenario file lies: relative `uses:` and tool files are found from here."""
