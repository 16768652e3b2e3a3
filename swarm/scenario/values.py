"""The kinds of values in a scenario file: how each is written, checked and described in the JSON Schema.

A message never shows a value that may be a secret written where only its name belongs.
"""

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue

from swarm.errors import quote
from swarm.scenario import units

_INSERTED = r"|.*\$\{\{.*"
"""A text that gets its value by `${{ … }}` may stand where a quantity does."""


def _shorthand(pattern: str, *, number: str = "", least: int = 0, examples: list[str]) -> WithJsonSchema:
    text: dict[str, JsonValue] = {"type": "string", "pattern": f"^(?:{pattern}{_INSERTED})$", "examples": [*examples]}
    if not number:
        return WithJsonSchema(text)
    return WithJsonSchema({"anyOf": [{"type": number, "minimum": least}, text]})


def _name(pattern: str, what: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{quote(value)} is no {what}")
        return value

    return check


def _at_most(bound: int) -> Callable[[int], int]:
    def check(value: int) -> int:
        if value > bound:
            raise ValueError(f"{value} is too large; at most {bound}")
        return value

    return check


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _environment_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):  # the value may be the secret itself: never shown
        raise ValueError("this is not the name of an environment variable; never write a key itself here")
    return value


def _url(value: str) -> str:
    if re.search(r"[@?#]", value):  # it may hold a secret: never shown
        raise ValueError("an address has no user, password, query or fragment; the key goes into `key`, by its name")
    wrong = f"{quote(value)} is no address; write it as https://host/v1"
    try:
        parts = urlsplit(value)
        fits = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and not re.search(r"\s", value)
    except ValueError as error:
        raise ValueError(wrong) from error
    if not fits:
        raise ValueError(wrong)
    return value


_HOST = (
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]"
)


def _host(value: str) -> str:
    match = re.fullmatch(rf"(?:\*\.)?(?:{_HOST})(?::([0-9]{{1,5}}))?", value)
    if not match or not 0 < int(match[1] or 443) < 65_536:  # noqa: PLR2004
        raise ValueError(f"{quote(value)} is no host; write example.org, *.example.org or example.org:8080")
    return value.lower()


def _host_and_port(value: str) -> str:
    if not re.fullmatch(rf"(?:{_HOST}):[0-9]{{1,5}}", value):
        raise ValueError(f"{quote(value)} is no host with its port; write it as 127.0.0.1:8080")
    return _host(value)


def _fetch(value: object) -> object:
    if isinstance(value, str) and value not in {"public", "none"}:
        raise ValueError(f"{quote(value)} is not one of public, none, or a list of hosts")
    return value if isinstance(value, list) else _listed(value)


def _glob(value: str) -> str:
    if not value or value.startswith("/") or ".." in value.split("/"):
        raise ValueError(f"{quote(value)} leads out of the project; write a path in it, such as report.md or *.png")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("this is empty; say in words what is wanted")
    return value


Text = Annotated[str, AfterValidator(_not_blank), Field(min_length=1)]
Slug = Annotated[
    str,
    AfterValidator(_name(r"[a-z0-9][a-z0-9_-]{0,62}", "name here; use a to z, 0 to 9, - and _, at most 63")),
    WithJsonSchema({"type": "string", "pattern": f"^(?:[a-z0-9][a-z0-9_-]{{0,62}}{_INSERTED})$"}),
]
SubtaskId = Annotated[
    str,
    AfterValidator(_name(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "id; use letters, digits, - and _, at most 63")),
    WithJsonSchema({"type": "string", "pattern": f"^(?:[A-Za-z0-9][A-Za-z0-9_-]{{0,62}}{_INSERTED})$"}),
]
EnvironmentName = Annotated[str, AfterValidator(_environment_name), Field(json_schema_extra={"examples": ["LAB_KEY"]})]
Duration = Annotated[
    int, BeforeValidator(units.parse_duration), _shorthand(units.DURATION, examples=["30s", "10m", "2h"])
]
Count = Annotated[
    int,
    BeforeValidator(units.parse_count),
    _shorthand(units.COUNT, number="integer", least=1, examples=["24", "200k", "1.5M"]),
]
CountInCheck = Annotated[int | str, _shorthand(units.COUNT, number="integer", examples=["300", "1.5k"])]
DurationInCheck = Annotated[str, _shorthand(r"[0-9]{1,9}[smh]", examples=["60s"])]
"""As `agents.checking.criteria` reads them."""
TokenCount = Annotated[Count, AfterValidator(_at_most(1_000_000))]
MOST_SMALL = 10_000
SmallCount = Annotated[Count, AfterValidator(_at_most(MOST_SMALL))]
Url = Annotated[str, AfterValidator(_url)]
Host = Annotated[str, AfterValidator(_host)]
HostAndPort = Annotated[str, AfterValidator(_host_and_port)]
Money = Annotated[int, BeforeValidator(units.parse_money), _shorthand(units.MONEY, examples=["0.50 USD"])]
PerToken = Annotated[
    int,
    BeforeValidator(units.picodollars_per_token),
    _shorthand(r"[0-9]+(?:\.[0-9]{1,6})?", number="number", examples=["0.10"]),
]
Model = Annotated[Text, Field(json_schema_extra={"examples": ["openai:gpt-5-mini", "local:qwen2.5-coder-1.5b"]})]
_ONE_OR_MANY: JsonSchemaValue = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
}
Paths = Annotated[list[Text], BeforeValidator(_listed), Field(min_length=1), WithJsonSchema(_ONE_OR_MANY)]
Globs = Annotated[
    list[Annotated[str, AfterValidator(_glob)]],
    BeforeValidator(_listed),
    Field(min_length=1),
    WithJsonSchema(_ONE_OR_MANY),
]
Fetch = Annotated[
    list[Annotated[str, AfterValidator(_host)]],
    BeforeValidator(_fetch),
    WithJsonSchema({"anyOf": [{"enum": ["public", "none"]}, {"type": "array", "items": {"type": "string"}}]}),
]
