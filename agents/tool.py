"""Contract: name, argument model, what it may do, `run`.

A tool is a typed async function under `@tool(...)`: its arguments give the schema, its docstring the description. An
argument annotated `ToolContext` is filled by us and not shown to the model.
"""

import functools
import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import pydantic
from pydantic import JsonValue
from pydantic_core import ErrorDetails

from agents.conversation.fitting import OUTPUT_CAP
from agents.conversation.structured import bare
from agents.errors import ToolFailed
from agents.files.project_folder import ProjectFolder
from agents.model import ToolSchema
from agents.sandbox import Sandbox
from bus.setup import Permissions

EffectKind = Literal["reads", "folder", "outward"]
"""`reads` looks only; `folder` changes only the attempt's folder; `outward` acts on the outside world."""

FAULTS = 10
"""How many faults of a call's arguments are named."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may use while it runs."""

    folder: ProjectFolder
    """The attempt's folder, confined."""
    permissions: Permissions
    """Where the run may reach; a tool that uses the network keeps to them."""
    sandbox: Sandbox | None = None
    """Where code from a model runs; nowhere else."""
    timeout_s: float = 60.0
    """How long the tool should take at most."""
    idempotency_key: str = ""
    """The same for each repetition of this call, in any attempt, and in no other run; for services that take one."""
    shown: int = OUTPUT_CAP
    """Bytes of its answer that the model is shown: out of a longer one the middle is cut."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool, ready to be called."""

    name: str
    description: str
    effect: EffectKind
    arguments: type[pydantic.BaseModel]
    function: Callable[..., Awaitable[object]]
    context_argument: str | None = None
    network: bool = False
    idempotent: bool = False
    needs_approval: bool = False
    polls: bool = False

    @property
    def schema(self) -> ToolSchema:
        """What the model is shown."""
        return _schema(self.name, self.description, self.arguments)

    def validate(self, arguments: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Return the arguments as the function takes them, in JSON's types.

        Raises `ToolFailed` with each fault, in words that a model can act on.
        """
        return self._checked(arguments).model_dump(mode="json", by_alias=True, exclude_unset=True)

    async def run(self, arguments: Mapping[str, JsonValue], context: ToolContext) -> str:
        """Run the tool and return its answer as text, which is JSON unless it is text.

        Raises `ToolFailed`, what the function raises, and `TypeError` for an answer that is no JSON.
        """
        checked = self._checked(arguments)
        values = {str(field.alias): getattr(checked, name) for name, field in type(checked).model_fields.items()}
        if self.context_argument:
            values[self.context_argument] = context
        result = await self.function(**values)
        if isinstance(result, str):
            return result
        try:
            return pydantic.TypeAdapter(object).dump_json(result).decode()
        except ValueError as error:
            raise TypeError(f"what it returned ({type(result).__name__}) is no JSON: {error}") from error

    def _checked(self, arguments: Mapping[str, JsonValue]) -> pydantic.BaseModel:
        try:
            return self.arguments.model_validate(dict(arguments))
        except pydantic.ValidationError as error:
            known = [str(field.alias) for field in self.arguments.model_fields.values()]
            faults = [_in_words(fault, known) for fault in error.errors(include_url=False, include_input=False)]
            more = [f"and {len(faults) - FAULTS} more"] if len(faults) > FAULTS else []
            text = "; ".join([*faults[:FAULTS], *more])
            raise ToolFailed(f"{self.name} was not run, its arguments are wrong: {text}") from error


def tool(
    bare: Callable[..., object] | None = None,
    /,
    *,
    effect: EffectKind | None = None,
    name: str | None = None,
    network: bool | None = None,
    idempotent: bool = False,
    needs_approval: bool | None = None,
    polls: bool = False,
) -> Callable[[Callable[..., Awaitable[object]]], Tool]:
    """Make a tool of an async function.

    Without `effect` it is taken for the worst: outward, not idempotent, approval needed; and since approvals are not in
    this version, a scenario is refused that grants it. `reads` and `folder` imply neither network nor approval. Raises
    `TypeError` for a function that cannot be a tool.
    """
    if bare is not None:
        raise TypeError(f'above {_name(bare)} stands @tool alone: write @tool(effect="reads"), "folder" or "outward"')
    kind: EffectKind = effect or "outward"

    def make(function: Callable[..., Awaitable[object]]) -> Tool:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"@tool wants an async function; {_name(function)} is not one")
        shown = name or function.__name__
        if not _NAME.fullmatch(shown):
            raise TypeError(f"{shown!r} is no name that models take: 1 to 64 of A-Z a-z 0-9 _ -; use @tool(name=…)")
        if not (description := inspect.getdoc(function)):
            raise TypeError(f"{_name(function)} has no docstring: it is what the model is told about the tool")
        arguments, context_argument = _arguments(function)
        return Tool(
            name=shown,
            description=description,
            effect=kind,
            arguments=arguments,
            function=function,
            context_argument=context_argument,
            network=kind == "outward" if network is None else network,
            idempotent=idempotent or kind != "outward",
            needs_approval=(effect is None) if needs_approval is None else needs_approval,
            polls=polls,
        )

    return make


def _arguments(function: Callable[..., Awaitable[object]]) -> tuple[type[pydantic.BaseModel], str | None]:
    """Return the model of a function's arguments, and the name of the one that we fill.

    A field is named by its position and known by its alias: an argument may then have any name, also one that pydantic
    uses itself (`schema`, `model_config`) or hides (`_x`).
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{_name(function)}: {error}. Types of a tool's arguments are names of its module, imported at run time "
            "(not under TYPE_CHECKING)"
        ) from error
    context_argument = None
    fields: dict[str, typing.Any] = {}
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        where = f"argument {parameter.name!r} of {_name(function)}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{where}: a tool is called by keywords, so `/`, `*args` and `**kwargs` are of no use")
        if parameter.name not in hints:
            raise TypeError(f"{where} has no type: models are told by it what to give")
        hint = hints[parameter.name]
        if hint is ToolContext:
            context_argument = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[f"argument_{position}"] = (typing.Annotated[hint, pydantic.Field(alias=parameter.name)], default)
        _refuse_strange(hint, where)
    config = pydantic.ConfigDict(extra="forbid", frozen=True)
    return pydantic.create_model(function.__name__, __config__=config, **fields), context_argument


@functools.cache  # every conversation shows its tools: made anew each time, that was half of a run's CPU time
def _schema(name: str, description: str, arguments: type[pydantic.BaseModel]) -> ToolSchema:
    return ToolSchema(name, description, bare(arguments.model_json_schema()))


def _refuse_strange(hint: typing.Any, where: str) -> None:  # noqa: ANN401 - any type
    """Refuse a type that JSON cannot spell, when the tool is made and not when a model first meets it."""
    try:
        pydantic.TypeAdapter(hint).json_schema()
    except pydantic.errors.PydanticUserError as error:
        raise TypeError(f"{where}: {hint!r} cannot be given as JSON; take a type that can") from error


def _in_words(fault: ErrorDetails, known: list[str]) -> str:
    where = ".".join(str(part) for part in fault["loc"])[:100] or "arguments"
    if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
        return f"{where!r}: there is no such argument (known: {', '.join(known) or 'none'})"
    if fault["type"] == "missing":
        return f"{where!r} is missing"
    return f"{where!r}: {fault['msg'][:300]}"


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", repr(function))
