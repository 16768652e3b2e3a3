"""Contract: name, argument model, what it may do, `run`.

A tool is a typed async function under `@tool(...)`: its arguments give the schema, its docstring the description. An
argument annotated `ToolContext` is filled by us and not shown to the model.
"""

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import pydantic
from pydantic import JsonValue

from agents.errors import ToolFailed
from agents.model import ToolSchema
from agents.project_folder import ProjectFolder
from agents.sandbox import Sandbox
from bus.setup import Permissions

EffectKind = Literal["reads", "folder", "outward"]
"""`reads` looks only; `folder` changes only the attempt's folder; `outward` acts on the outside world."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may use while it runs."""

    folder: ProjectFolder
    """The attempt's folder, confined."""
    permissions: Permissions
    sandbox: Sandbox | None = None
    timeout_s: float = 60.0
    idempotency_key: str = ""
    """The same for each repetition of this very call; for services that take one."""


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
        return ToolSchema(self.name, self.description, _bare(self.arguments.model_json_schema()))

    def validate(self, arguments: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Return the arguments as the function takes them, in JSON's types.

        Raises `ToolFailed` with each fault, in words that a model can act on.
        """
        try:
            return self.arguments.model_validate(dict(arguments)).model_dump(mode="json", exclude_unset=True)
        except pydantic.ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(str(part) for part in fault['loc']) or 'arguments'}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False)
            )
            raise ToolFailed(f"{self.name} was not run, its arguments are wrong: {faults}") from error

    async def run(self, arguments: Mapping[str, JsonValue], context: ToolContext) -> str:
        """Run the tool and return its answer as text. Raises `ToolFailed`."""
        checked = self.arguments.model_validate(dict(arguments))
        values = {name: getattr(checked, name) for name in type(checked).model_fields}
        if self.context_argument:
            values[self.context_argument] = context
        result = await self.function(**values)
        return result if isinstance(result, str) else pydantic.TypeAdapter(type(result)).dump_json(result).decode()


def tool(
    *,
    effect: EffectKind | None = None,
    name: str | None = None,
    network: bool | None = None,
    idempotent: bool = False,
    needs_approval: bool | None = None,
    polls: bool = False,
) -> Callable[[Callable[..., Awaitable[object]]], Tool]:
    """Make a tool of an async function.

    Without `effect` it is taken for the worst: outward, not idempotent, approval needed. `reads` and `folder` imply
    neither network nor approval.
    """
    kind: EffectKind = effect or "outward"

    def make(function: Callable[..., Awaitable[object]]) -> Tool:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"@tool wants an async function; {function.__qualname__} is not one")
        hints = typing.get_type_hints(function, include_extras=True)
        context_argument = None
        fields: dict[str, typing.Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            hint = hints.get(parameter.name, str)
            if hint is ToolContext:
                context_argument = parameter.name
                continue
            fields[parameter.name] = (hint, ... if parameter.default is parameter.empty else parameter.default)
        arguments = pydantic.create_model(
            function.__name__, __config__=pydantic.ConfigDict(extra="forbid", frozen=True), **fields
        )
        return Tool(
            name=name or function.__name__,
            description=inspect.getdoc(function) or "",
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


def _bare(schema: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Drop the titles that pydantic adds: a model pays for them in tokens and learns nothing."""
    schema.pop("title", None)
    for value in schema.get("properties", {}).values():
        value.pop("title", None)
    return schema
