"""Which model a role speaks with, why that one, and how it is reached.

First that is given: `--model ROLE=M`, `--model M`, the role's `model`, the scenario's, `SWARM_MODEL`; else the first
that is found: the endpoint of `OPENAI_API_KEY` or `OPENAI_BASE_URL`, an Ollama or llama.cpp server on its usual local
port, a small model of our own. `swarm doctor models` shows all that `look` finds.
"""

import asyncio
import difflib
import importlib
import importlib.util
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from agents.completions.endpoint import OPENAI_HOST, shared_endpoint
from agents.errors import ModelUnavailable, NoSuchModel
from agents.model import Model, ModelPlace, TryFailed
from agents.models import LOCAL_SERVERS, MODELS
from bus.setup import Endpoint
from swarm.settings import Settings

OPENAI_MODEL = "gpt-5-mini"
LOCAL_MODEL = "qwen2.5-coder-1.5b"

_PROBE_TIMEOUT_S = 0.5
_PROBE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Choice:
    """A model as `provider:name`, and why it was chosen."""

    model: str
    why: str


@dataclass(frozen=True, slots=True)
class Source:
    """One source of models; `choice` is None where nothing usable is there, `remedy` then says what to do."""

    place: str
    told: str
    choice: Choice | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line and the scenario ask for; `command_roles` and `roles` by role."""

    command_roles: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    scenario: str | None = None


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What holds for a model unless the scenario says otherwise. `context`: tokens; `temperature` None: its own."""

    dialogue: Literal["native", "json"] = "native"
    context: int = 32_768
    temperature: float | None = None
    timeout_s: float = 120.0


# A small model does best with actions as JSON, and near to its likeliest answer; attempts after the first draw wider.
_SMALL = ModelDefaults("json", 8_192, 0.2, 600.0)
_FEW_PARAMETERS = r".*(?<![\d.])(?<![-_]a)(0\.\d+|[1-4](\.\d+)?)b(?![a-z]).*"
"""Up to four billion in all; `30b-a3b` says how many of thirty work at once."""
_DEFAULTS: tuple[tuple[str, ModelDefaults], ...] = (
    (r"local:.*", _SMALL),
    (r"(recorded|scripted):.*", ModelDefaults(context=1_000_000)),
    (rf"(ollama|llamacpp):{_FEW_PARAMETERS}", ModelDefaults("json", 4_096, 0.5, 600.0)),
    (r"(ollama|llamacpp):.*", ModelDefaults(context=4_096, timeout_s=600.0)),
    (r"openai:gpt-4\.1.*", ModelDefaults(context=1_000_000)),
    (r"openai:gpt-4o.*", ModelDefaults(context=128_000)),
    (r"openai:(gpt-5|o\d).*", ModelDefaults(context=200_000)),
    (_FEW_PARAMETERS, ModelDefaults("json", 8_192, 0.5)),
)


def defaults_of(model: str) -> ModelDefaults:
    """Return the defaults of `provider:name`."""
    for pattern, defaults in _DEFAULTS:
        if re.fullmatch(pattern, model, re.IGNORECASE):
            return defaults
    return ModelDefaults()


def split_model(model: str) -> tuple[str, str]:
    """Return (provider, name). Raises `NoSuchModel` for anything else than `provider:name`."""
    provider, colon, name = model.partition(":")
    if not (provider and name):
        such = f"{provider or 'openai'}:{name or 'NAME'}" if colon else f"openai:{model or 'NAME'}"
        raise NoSuchModel(f"{model!r} names no model.", f"Write provider:name, such as {such}.")
    return provider, name


RECORDED = "recorded"
"""The provider of models that a recording answers for."""


def is_recorded(model: str) -> bool:
    """Tell whether `provider:name` is a recording."""
    return model.partition(":")[0] == RECORDED


def named(role: str, wanted: Wanted, settings: Settings) -> Choice | None:
    """Return what a role was given a model by, None where nothing names one."""
    for model, why in (
        (wanted.command_roles.get(role), f"from --model {role}="),
        (wanted.command, "from --model"),
        (wanted.roles.get(role), f"from roles.{role}.model"),
        (wanted.scenario, "from the scenario's model"),
        (settings.model, "from SWARM_MODEL"),
    ):
        if model:
            split_model(model)
            return Choice(model, why)
    return None


def without(wanted: Wanted, unwanted: Callable[[str], bool]) -> Wanted:
    """Return what is asked for with each model left out that is `unwanted`."""

    def kept(models: Mapping[str, str]) -> dict[str, str]:
        return {role: model for role, model in models.items() if not unwanted(model)}

    def one(model: str | None) -> str | None:
        return None if model and unwanted(model) else model

    return Wanted(kept(wanted.command_roles), one(wanted.command), kept(wanted.roles), one(wanted.scenario))


async def choose(
    roles: Iterable[str], wanted: Wanted, settings: Settings, servers: Mapping[str, str] = LOCAL_SERVERS
) -> dict[str, Choice]:
    """Return the choice for each role; looks around only for those that nothing names a model for.

    Raises `ModelUnavailable` with every possibility and its command.
    """
    given = {role: named(role, wanted, settings) for role in roles}
    found = await find(settings, servers) if None in given.values() else None
    return {role: choice for role, given_choice in given.items() if (choice := given_choice or found)}


async def find(settings: Settings, servers: Mapping[str, str] = LOCAL_SERVERS) -> Choice:
    """Return the first usable model that is found. Raises `ModelUnavailable` with what was looked at."""
    missed = []
    async for source in look(settings, servers):
        if source.choice:
            return source.choice
        missed.append(source)
    lines = "\n".join(f"  {source.place}: {source.told}\n      {source.remedy}" for source in missed)
    raise ModelUnavailable(
        f"No model is named, and none was found:\n{lines}", "\nOr name one: swarm run SCENARIO --model provider:name"
    )


async def look(settings: Settings, servers: Mapping[str, str] = LOCAL_SERVERS) -> AsyncIterator[Source]:
    """Yield what is found at each place, in the order of preference."""
    yield await _openai(settings)
    probes = {"ollama": _ollama, "llamacpp": _llamacpp}
    for source in await asyncio.gather(*(probes[name](url) for name, url in servers.items())):
        yield source
    yield _own()


async def _openai(settings: Settings) -> Source:
    place, url, key = "OpenAI or another endpoint", settings.openai_url, settings.openai_key
    commands = "export OPENAI_API_KEY=…   (for another endpoint also: export OPENAI_BASE_URL=https://host/v1)"
    if url is None or urlsplit(url).hostname == OPENAI_HOST:
        if not key:
            return Source(place, "OPENAI_API_KEY is not set", remedy=commands)
        return Source(place, "OPENAI_API_KEY is set", Choice(f"openai:{OPENAI_MODEL}", "from OPENAI_API_KEY"))
    try:
        endpoint = shared_endpoint(url, key, key_name="OPENAI_API_KEY")
        try:
            names = await endpoint.models()
        finally:
            await endpoint.close()
    except (ModelUnavailable, TryFailed) as error:
        return Source(place, f"OPENAI_BASE_URL {url!r} lists no models: {error}", remedy=commands)
    if not names:
        return Source(place, f"OPENAI_BASE_URL {url!r} has no models", remedy=commands)
    why = f"the first of {len(names)} at OPENAI_BASE_URL {url}"
    return Source(place, f"{len(names)} models", Choice(f"openai:{names[0]}", why))


async def _ollama(url: str) -> Source:
    pull = "ollama serve & ollama pull qwen3:8b"
    match await _get(f"{url}/api/tags"):
        case {"models": list(models)} if all(isinstance(model, dict) and "digest" in model for model in models):
            names = [str(model["name"]) for model in models if "embed" not in str(model.get("name", "embed"))]
            if not names:
                return Source("Ollama", f"it runs at {url} and has no models", remedy=pull)
            return Source("Ollama", f"{len(names)} models", Choice(f"ollama:{names[0]}", f"Ollama answers at {url}"))
    return Source("Ollama", f"nothing at {url} answers as one", remedy=pull)


async def _llamacpp(url: str) -> Source:
    match await _get(f"{url}/v1/models"):
        case {"data": [{"id": str(name), "owned_by": "llamacpp"}, *_]}:
            why = f"a llama.cpp server answers at {url}"
            return Source("llama.cpp", name, Choice(f"llamacpp:{Path(name).name}", why))
    command = "llama-server -m model.gguf --jinja --port 8080"
    return Source("llama.cpp", f"nothing at {url} answers as one", remedy=command)


def _own() -> Source:
    place = "a small model of our own"
    if importlib.util.find_spec("xllamacpp") is None:
        return Source(place, "the `local` extra is not installed", remedy="pip install 'eventswarm[local]'")
    why = "nothing else was found; it is small: name a better one for serious work"
    return Source(place, "the `local` extra is installed", Choice(f"local:{LOCAL_MODEL}", why))


async def _get(url: str) -> object:
    """Return the JSON at a local URL, None where there is none to be had at once."""
    import aiohttp  # noqa: PLC0415  # most runs need not look around

    timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200 or (response.content_length or 0) > _PROBE_BYTES:  # noqa: PLR2004
                return None
            found: object = await response.json(content_type=None)
            return found
    except (aiohttp.ClientError, OSError, ValueError):
        return None  # whatever listens there is not what we look for


def place_of(
    model: str,
    endpoints: Mapping[str, Endpoint],
    settings: Settings,
    *,
    calls: int = 64,
    folder: Path = Path(),
    announce: Callable[[str], None] = lambda _: None,
) -> ModelPlace:
    """Return where `provider:name` is reached; `folder` is the scenario's. Raises `NoSuchModel`."""
    provider, _ = split_model(model)
    url = key = key_name = None
    if provider in endpoints:
        url, key_name = endpoints[provider].url, endpoints[provider].key
        key = settings.env.get(key_name) if key_name else None
    elif provider == "openai":
        url, key = settings.openai_url, settings.openai_key
        key_name = "OPENAI_API_KEY" if key or url is None or urlsplit(url).hostname == OPENAI_HOST else None
    elif provider in LOCAL_SERVERS:
        url = f"{LOCAL_SERVERS[provider]}/v1"
    elif provider not in MODELS:
        raise _unknown(provider, [*endpoints, *MODELS, *LOCAL_SERVERS])
    cache = settings.cache / "models" if settings.cache else None
    return ModelPlace(url, key, key_name, calls, folder, cache, announce)


def open_model(model: str, place: ModelPlace) -> Model:
    """Return the model, in a running event loop; whoever opens it closes it. Raises `ModelUnavailable`."""
    provider, name = split_model(model)
    module, _, kind = MODELS["openai" if place.url else provider].partition(":")
    opened: Model = getattr(importlib.import_module(module), kind)(name, place)
    return opened


def _unknown(provider: str, known: list[str]) -> NoSuchModel:
    near = difflib.get_close_matches(provider, known, 1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return NoSuchModel(
        f"{provider!r} is no provider of models (known: {', '.join(sorted(set(known)))}).",
        f"{hint}An endpoint of your own stands under `endpoints:` in the scenario.",
    )
