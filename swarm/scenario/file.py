"""The scenario file's shape: each key with its type, bounds and description. `swarm schema` publishes it.

Here stands only what can be said of one value by itself; what must fit together (roles, plans, files on disk) is
`swarm/scenario/rules.py`, and what a run is made of is `swarm/scenario/model.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from bus.setup import Criterion
from swarm.scenario.units import LARGEST_COUNT, LONGEST_MS, MOST_MONEY
from swarm.scenario.values import (
    MOST_SMALL,
    Count,
    CountInCheck,
    Duration,
    DurationInCheck,
    EnvironmentName,
    Fetch,
    Globs,
    HostAndPort,
    Model,
    Money,
    Paths,
    PerToken,
    Slug,
    SmallCount,
    SubtaskId,
    Text,
    TokenCount,
    Url,
)


class Section(BaseModel):
    """A mapping in the file; unknown keys are errors, and nothing is converted silently."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())


class InputSection(Section):
    """A text that the person who runs it may give."""

    default: str | None = Field(
        default=None, description="Used where none is given; without a default one must be given."
    )
    description: str = Field(default="", description="What it is for, for the person who gives it.")


class PriceSection(Section):
    """US dollars a million tokens."""

    input: PerToken = Field(description="Price of a million input tokens in US dollars.")
    output: PerToken = Field(description="Price of a million output tokens in US dollars.")
    cached: PerToken | None = Field(
        default=None, description="Price of a million cached input tokens; left out: as `input`."
    )


class EndpointSection(Section):
    """Something that speaks Chat Completions; its models are called `NAME:model`."""

    url: Url = Field(description="Base address, such as https://lab.example/v1.")
    key: EnvironmentName | None = Field(
        default=None, description="Name of the environment variable that holds the key."
    )
    price: PriceSection | None = Field(
        default=None, description="What its tokens cost; left out: what is listed for its address, if anything."
    )


class CriterionSection(Section):
    """Base of the entries of `accept`; they only describe, `agents/checks` gives them meaning."""


class FileCriterion(CriterionSection):
    """A file is there and not empty."""

    file: str = Field(description="Path of a file that must be there and not be empty.")


class TextCriterion(CriterionSection):
    """A text file is as long as it should be, and says what it should."""

    text: str = Field(description="Path of a text file.")
    min_words: CountInCheck | None = Field(default=None, description="The fewest words it may have.")
    max_words: CountInCheck | None = Field(default=None, description="The most words it may have.")
    contains: list[str] | str | None = Field(
        default=None, description="What it must contain; `re:` begins an expression."
    )
    lacks: list[str] | str | None = Field(
        default=None, description="What it must not contain; `re:` begins an expression."
    )


class JsonCriterion(CriterionSection):
    """A file is JSON, and fits a schema."""

    json_: str = Field(alias="json", description="Path of a JSON file.")
    schema_: str | dict[str, JsonValue] | None = Field(
        default=None,
        alias="schema",
        description="JSON Schema it must fit: a file beside the scenario, else one of the project; or the schema.",
    )


class RunCriterion(CriterionSection):
    """A command ends with status 0."""

    run: str = Field(description="Command for `sh -c`, run in the sandbox at the root of the project's files.")
    timeout: DurationInCheck | None = Field(default=None, description="The longest it may run, such as 60s.")


class AskCriterion(CriterionSection):
    """The critic's model says that something holds."""

    ask: str = Field(description="A statement that the critic's model judges; costs model calls.")


class RoleSection(Section):
    """Changes a role that is always there, or adds one."""

    model: Model | None = Field(
        default=None, description="Model of this role as provider:name; left out: the scenario's."
    )
    agents: SmallCount | None = Field(
        default=None, description="Agents of this role at work at once; left out: as `parallel`."
    )
    tools: list[Text] | None = Field(
        default=None,
        description="Tools it may use, in place of the role's own: short names, ./file.py:name or package.module:name.",
    )
    max_tokens: TokenCount | None = Field(
        default=None, description="Tokens one answer may have, half the window at most; left out: 4096."
    )
    window: TokenCount | None = Field(
        default=None, description="Tokens of the model's context window; left out: what is known of the model."
    )
    dialogue: Literal["native", "json"] | None = Field(
        default=None, description="How tools are called: by the endpoint's own means, or as JSON in the text."
    )
    deadline: Duration | None = Field(
        default=None, description="Running time of one attempt; left out: a third of the run's."
    )
    prompt: Text | None = Field(
        default=None, description="In place of the role's own prompt: a text, or a file as ./name.md."
    )
    uses: Text | None = Field(default=None, description="A class of your own: ./file.py:Class or package.module:Class.")
    options: dict[str, JsonValue] | None = Field(
        default=None, alias="with", description="Keyword arguments of that class."
    )


class SubtaskSection(Section):
    """One subtask of a plan."""

    id: SubtaskId = Field(description="Its name in the plan.")
    role: Text = Field(description="The role that does it.")
    do: Text = Field(description="What is to be done, in words.")
    needs: list[str] = Field(default=[], description="Ids of subtasks that must be accepted before it begins.")
    accept: list[Criterion] = Field(
        default=[], description="What its result must hold; left out: it is taken as it is."
    )


class LimitsSection(Section):
    """Hard limits of the run."""

    time: Duration = Field(default=1_800_000, description="Running time; pauses do not count. Left out: 30m.")
    tokens: Count = Field(
        default=200_000, description="Input, cached included, and output tokens of all model calls. Left out: 200k."
    )
    money: Money | None = Field(
        default=None, description="What the model calls may cost, whose prices must be known. Left out: no limit."
    )
    rounds: SmallCount = Field(
        default=3, description="Reviews of the whole outcome, each with one new plan at most. Left out: 3."
    )
    attempts: SmallCount = Field(default=3, description="Tries of one subtask. Left out: 3.")
    subtasks: SmallCount = Field(default=24, description="Subtasks ever assigned. Left out: 24.")
    parallel: SmallCount = Field(default=8, description="Agents at work at once, over all roles. Left out: 8.")
    calls: SmallCount = Field(default=64, description="Model calls in flight to one endpoint. Left out: 64.")


LARGEST_LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "time_ms": LONGEST_MS,
        "tokens": LARGEST_COUNT,
        "money": MOST_MONEY,
        **dict.fromkeys(("rounds", "attempts", "subtasks", "parallel", "calls"), MOST_SMALL),
    }
)
"""The most that a file can say of each of `bus.setup.Limits`, for what comes in as these and from no file."""


class PermissionsSection(Section):
    """Where the run may reach."""

    fetch: Fetch = Field(
        default=["public"], description="What `fetch_page` may read: public, none, or a list of hosts."
    )
    private_hosts: list[HostAndPort] = Field(
        default=[], description="Hosts of the private network that may be read, each exactly as host:port."
    )


class SandboxSection(Section):
    """Where code runs that a model wrote."""

    python: Text | None = Field(
        default=None, description="The interpreter in the sandbox; left out: the one that runs swarm."
    )
    use: Slug | None = Field(default=None, description="The sandbox to use; left out: the best that works here.")


class ScenarioFile(Section):
    """A goal, and what agents may use to reach it."""

    name: Slug | None = Field(
        default=None, description="Short name of a to z, 0 to 9, - and _; left out: the file's name."
    )
    description: str = Field(default="", description="One line, shown by `swarm scenarios`.")
    goal: Text = Field(description="What is to be reached, in words.")
    inputs: dict[str, InputSection] = Field(
        default={}, description="Texts that ${{ inputs.NAME }} stands for in this file."
    )
    workspace: Paths | None = Field(
        default=None, description="Files or folders copied in; `.` means the folder's contents."
    )
    model: Model | None = Field(
        default=None, description="Model of every role as provider:name; left out: what is found."
    )
    endpoints: dict[Slug, EndpointSection] = Field(default={}, description="Chat Completions endpoints by their name.")
    roles: dict[Slug, RoleSection] = Field(
        default={}, description="Changes planner, researcher, coder, critic, or adds roles."
    )
    accept: list[Criterion] = Field(
        default=[],
        description="What the outcome must hold; left out: the critic's model judges whether it reaches the goal.",
    )
    plan: list[SubtaskSection] | None = Field(
        default=None, min_length=1, description="Subtasks, in place of the planner's."
    )
    limits: LimitsSection = Field(default=LimitsSection(), description="Hard limits of the run.")
    permissions: PermissionsSection = Field(default=PermissionsSection(), description="Where the run may reach.")
    sandbox: SandboxSection = Field(default=SandboxSection(), description="Where code runs that a model wrote.")
    outcome: Globs | None = Field(
        default=None,
        description="Patterns of the files handed over, changed or not, in any folder; left out: all that changed.",
    )


Sections = Mapping[tuple[str, ...], type[Section]]
SECTIONS: Sections = {
    (): ScenarioFile,
    ("inputs", "*"): InputSection,
    ("endpoints", "*"): EndpointSection,
    ("endpoints", "*", "price"): PriceSection,
    ("roles", "*"): RoleSection,
    ("plan", "*"): SubtaskSection,
    ("limits",): LimitsSection,
    ("permissions",): PermissionsSection,
    ("sandbox",): SandboxSection,
}
"""Which section stands where; `*` is any name or index."""

_CRITERIA = (FileCriterion, TextCriterion, JsonCriterion, RunCriterion, AskCriterion)


def known_keys(path: tuple[str | int, ...], sections: Sections = SECTIONS) -> list[str]:
    """Return the keys that a mapping at this path may have; none where they are free."""
    for where, section in sections.items():
        if len(where) == len(path) and all(key in ("*", part) for key, part in zip(where, path, strict=True)):
            return [field.alias or name for name, field in section.model_fields.items()]
    return []


class _Published(GenerateJsonSchema):
    """Says less than pydantic does: no titles, no nulls (a key is left out, not empty), no defaults in our units."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a scenario file."""
    criteria, definitions = pydantic.json_schema.models_json_schema(
        [(kind, "validation") for kind in _CRITERIA], schema_generator=_Published, by_alias=True
    )
    whole = ScenarioFile.model_json_schema(schema_generator=_Published, by_alias=True)
    whole["$defs"] |= definitions["$defs"]
    entries = {"type": "array", "items": {"anyOf": list(criteria.values())}}
    for section in SECTIONS.values():
        properties = whole["properties"] if section is ScenarioFile else whole["$defs"][section.__name__]["properties"]
        for name, field in section.model_fields.items():
            about = properties[field.alias or name]
            about["description"] = field.description  # pydantic drops it beside a reference
            if name == "accept":
                properties[name] = entries | {"description": field.description}
    return {"$schema": GenerateJsonSchema.schema_dialect, "title": "swarm scenario"} | _untitled(whole)


def _untitled(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop the titles that only repeat a key's name; what is under `properties` are keys, not keywords."""
    return {
        key: (
            {name: _untitled(part) if isinstance(part, dict) else part for name, part in value.items()}
            if key in {"properties", "$defs"}
            else _untitled(value)
            if isinstance(value, dict)
            else [_untitled(part) if isinstance(part, dict) else part for part in value]
            if isinstance(value, list)
            else value
        )
        for key, value in schema.items()
        if key != "title"
    }
