import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.completions import shapes as chat_completions
from agents.completions.endpoint import Endpoint, shared_endpoint
from agents.completions.gate import CallGate
from agents.errors import ModelUnavailable
from agents.model import EndpointHealth, ModelPlace, ModelReply, ModelRequest, ToolSchema, TryFailed
from agents.models.openai_chat import OpenAIChat
from tests.support.endpoint import FAULTS, Answer, ChatEndpoint, completion

KEY = "sk-canary-0123456789"


def request(text: str = "hello", **changes: Any) -> ModelRequest:
    fields = {
        "model": "test-model",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 256,
        "timeout_s": 5.0,
    }
    return ModelRequest(**{**fields, **changes})


@pytest.fixture
async def opened() -> AsyncIterator[Any]:
    """Makes endpoints and closes them."""
    made: list[Endpoint] = []

    def make(url: str, key: str | None = None, **options: Any) -> Endpoint:
        made.append(Endpoint(url, key, **options))
        return made[-1]

    yield make
    for endpoint in made:
        await endpoint.close()


async def one_try(make: Any, fault: str, *, answer: str = "ok", key: str | None = None, **changes: Any) -> ModelReply:
    async with ChatEndpoint(lambda _: answer, faults=[fault]) as server:
        return await make(server.url, key).ask(request(**changes))


async def test_an_answer_brings_text_and_usage(opened: Any) -> None:
    usage = {"prompt_tokens": 30, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 16}}
    async with ChatEndpoint(answers=[Answer("hi there", usage=usage)]) as server:
        endpoint = opened(server.url, KEY)
        reply = await endpoint.ask(request())
        assert (reply.text, reply.finish, reply.calls) == ("hi there", "stop", ())
        assert reply.usage.model_dump() == {"input": 30, "output": 2, "cached": 16, "estimated": False}
        assert endpoint.health.answered == 1
        [received] = server.requests
        assert received.headers["Authorization"] == f"Bearer {KEY}"
        assert received.body == {
            "model": "test-model",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 256,
        }


async def test_tools_schema_and_temperature_are_sent_in_the_shape_of_the_api(opened: Any) -> None:
    tool = ToolSchema("read_file", "Read a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
    async with ChatEndpoint(answers=[Answer(calls=[("read_file", {"path": "a"})])]) as server:
        reply = await opened(server.url).ask(
            request(tools=[tool], temperature=0.5, answer_schema={"type": "object"}),
        )
        body = server.requests[0].body
    assert body["temperature"] == 0.5
    assert body["tools"][0]["function"]["name"] == "read_file"
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert reply.finish == "tool_calls"
    assert json.loads(reply.calls[0].arguments) == {"path": "a"}


@pytest.mark.parametrize(
    ("fault", "kind", "unproven"),
    [
        ("429", "rate_limited", False),
        ("500", "server", False),
        ("502", "server", False),
        ("503", "server", False),
        ("529", "server", False),
        ("quota", "unavailable", False),
        ("401", "unavailable", False),
        ("403", "unavailable", False),
        ("404", "unavailable", False),
        ("418", "refused", False),
        ("too_long", "too_long", False),
        ("reset", "server", True),
        ("reset_midway", "lost", True),
        ("html", "nonsense", True),
        ("truncated", "nonsense", True),
        ("wrong_schema", "nonsense", True),
        ("error_inside:429", "rate_limited", False),
        ("error_inside:401", "unavailable", False),
        ("error_inside:400", "refused", False),
        ("error_inside:502", "server", True),
        ("error_inside:0", "nonsense", True),
        ("error_in_choice", "server", True),
        ("empty_choices", "nonsense", True),
        ("null_everything", "nonsense", True),
        ("odd_content", "nonsense", True),
        ("finish_error", "nonsense", True),
        ("broken_gzip", "nonsense", True),
        ("huge", "too_big", True),
        ("gzip_bomb", "too_big", True),
        ("redirect", "too_big", False),
    ],
)
async def test_a_failed_try_says_its_kind_and_whether_it_may_have_been_paid(
    opened: Any, fault: str, kind: str, *, unproven: bool
) -> None:
    with pytest.raises(TryFailed) as failed:
        await one_try(opened, fault)
    assert (failed.value.kind, failed.value.unproven) == (kind, unproven)


@pytest.mark.parametrize("fault", ["no_answer", "drip"])
async def test_an_answer_that_does_not_come_whole_in_time_is_lost(opened: Any, fault: str) -> None:
    with pytest.raises(TryFailed, match=r"within 0\.3 s") as failed:
        await one_try(opened, fault, timeout_s=0.3)
    assert (failed.value.kind, failed.value.unproven) == ("lost", True)


async def test_a_refused_connection_has_cost_nothing(opened: Any) -> None:
    async with ChatEndpoint() as server:
        endpoint = opened(server.url)
        async with server.refusing():
            with pytest.raises(TryFailed) as failed:
                await endpoint.ask(request())
        assert (failed.value.kind, failed.value.unproven) == ("server", False)
        assert (await endpoint.ask(request())).text == "ok"


async def test_https_is_never_spoken_in_the_clear(opened: Any) -> None:
    async with ChatEndpoint() as server:
        for scheme in ("https", "HTTPS"):
            with pytest.raises(TryFailed) as failed:
                await opened(server.url.replace("http", scheme), KEY).ask(request())
            assert (failed.value.kind, failed.value.unproven) == ("server", False)
        assert server.count == 0


@pytest.mark.parametrize(
    ("fault", "finish", "names"),
    [
        ("broken_call", "tool_calls", ["read_file"]),
        ("unknown_tool", "tool_calls", ["launch"]),
        ("duplicate_ids", "tool_calls", ["one", "two"]),
        ("missing_ids", "tool_calls", ["one", "two"]),
        ("calls_with_stop", "tool_calls", ["read_file"]),
        ("cut_call", "length", ["read_file"]),
        ("filtered_call", "content_filter", ["read_file"]),
        ("length", "length", []),
        ("content_filter", "content_filter", []),
        ("filter_with_reason", "content_filter", []),
        ("safety", "content_filter", []),
        ("null_content", "stop", []),
        ("only_thoughts", "stop", []),
        ("refusal", "stop", []),
        ("gzip", "stop", []),
    ],
)
async def test_an_odd_answer_is_an_answer(opened: Any, fault: str, finish: str, names: list[str]) -> None:
    reply = await one_try(opened, fault)
    assert reply.finish == finish
    assert [call.name for call in reply.calls] == names
    assert len({call.id for call in reply.calls}) == len(names)
    assert all(call.id for call in reply.calls)
    assert (reply.refusal is not None) == (fault == "refusal")
    assert not reply.usage.estimated


async def test_a_rate_limit_inside_of_a_success_holds_all_calls_back(opened: Any) -> None:
    async with ChatEndpoint(faults=["error_inside:429"]) as server:
        endpoint = opened(server.url)
        with pytest.raises(TryFailed, match=r"^HTTP 429: Provider returned error \(in an answer of HTTP 200\)$"):
            await endpoint.ask(request())
        assert endpoint.health.blocked_until > time.monotonic()
        assert endpoint.health.answered == 0


def test_an_error_is_told_in_the_words_of_whom_the_endpoint_asked() -> None:
    inner = {"raw": "the temperature is not supported", "provider_name": "Lab"}
    told = {"error": {"code": 400, "message": "Provider returned error", "metadata": inner}}
    words = ("Provider returned error: the temperature is not supported", None, None)
    assert chat_completions.error_of(orjson.dumps(told)) == words
    assert chat_completions.error_of(orjson.dumps([told])) == words
    assert chat_completions.parameter_named(400, orjson.dumps(told), {"temperature": 0.2}) == "temperature"


async def test_every_fault_is_either_a_try_failed_or_a_reply(opened: Any) -> None:
    for fault in FAULTS:
        try:
            reply = await one_try(opened, fault, timeout_s=0.3)
        except TryFailed as failure:
            assert str(failure)  # noqa: PT017
        else:
            assert reply.usage.input >= 0


@pytest.mark.parametrize("fault", ["usage_missing", "usage_negative", "usage_words", "usage_zero"])
async def test_usage_that_cannot_be_believed_is_estimated(opened: Any, fault: str) -> None:
    reply = await one_try(opened, fault, text="x" * 4000, answer="y" * 400)
    assert reply.usage.estimated
    assert 1000 <= reply.usage.input <= 1100
    assert reply.usage.output == 100


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        ({"completion_tokens": 300, "total_tokens": 330, "completion_tokens_details": {"reasoning_tokens": 200}}, 300),
        ({"completion_tokens": 9, "total_tokens": 339, "completion_tokens_details": {"reasoning_tokens": 300}}, 309),
        ({"completion_tokens": 9, "total_tokens": 339}, 309),
        ({"completion_tokens": 0, "total_tokens": 90}, 60),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 300}}, 309),
        ({"completion_tokens": 300, "completion_tokens_details": {"reasoning_tokens": 200}}, 300),
        ({"completion_tokens": 9, "total_tokens": 10**18}, 9),
        ({"completion_tokens": 9, "total_tokens": 0}, 9),
        ({"completion_tokens": 9, "total_tokens": None, "completion_tokens_details": None}, 9),
    ],
)
async def test_thoughts_are_output_also_where_they_are_counted_beside_it(
    opened: Any, usage: dict[str, Any], output: int
) -> None:
    async with ChatEndpoint(answers=[Answer("", usage={"prompt_tokens": 30, **usage})]) as server:
        reply = await opened(server.url).ask(request(max_tokens=4096))
    assert (reply.usage.input, reply.usage.output, reply.usage.estimated) == (30, output, False)


@pytest.mark.parametrize("usage", [{"total_tokens": 130}, {"prompt_tokens": 30, "total_tokens": 130}])
def test_a_total_counts_also_where_its_parts_are_not_reported(usage: dict[str, int]) -> None:
    reply = chat_completions.read(completion(Answer("ok", usage=usage), {}), request(), 100)
    assert reply.usage.input + reply.usage.output == 130
    assert reply.usage.estimated


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_count_where_usage_is_estimated(name: str) -> None:
    answer = orjson.loads(completion(Answer("ok"), {}, **{name: "hm, " * 100}))
    del answer["usage"]
    assert chat_completions.read(orjson.dumps(answer), request(), 100).usage.output == 101


async def test_an_absurdly_large_usage_counts_as_the_most_it_can_have_been(opened: Any) -> None:
    reply = await one_try(opened, "usage_absurd", text="x" * 4000)
    assert reply.usage.estimated
    assert 4000 <= reply.usage.input <= 4200
    assert reply.usage.output == 256


@pytest.mark.parametrize("name", ["max_tokens", "temperature", "response_format"])
async def test_a_refused_parameter_is_left_out_from_then_on(opened: Any, name: str) -> None:
    asked = request(temperature=0.2, answer_schema={"type": "object", "title": "shape-of-answer"})
    async with ChatEndpoint(rule=lambda _: f"parameter:{name}") as server:
        endpoint = opened(server.url)
        with pytest.raises(TryFailed) as failed:
            await endpoint.ask(asked)
        assert failed.value.kind == "parameter"
        assert (await endpoint.ask(asked)).text == "ok"
        assert (await endpoint.ask(asked)).text == "ok"
        bodies = [received.body for received in server.requests]
        assert [name in body for body in bodies] == [True, False, False]
        assert ("max_completion_tokens" in bodies[1]) == (name == "max_tokens")
        assert "shape-of-answer" in json.dumps(bodies[1])
        assert [message["role"] for message in bodies[1]["messages"]] == ["user"]  # some take no two in a row
        await endpoint.ask(
            request(model="another", temperature=0.2, answer_schema={}, timeout_s=5.0)
        ) if False else None


async def test_a_parameter_is_given_up_for_one_model_only(opened: Any) -> None:
    async with ChatEndpoint(rule=lambda body: "parameter:temperature" if body["model"] == "old" else None) as server:
        endpoint = opened(server.url)
        with pytest.raises(TryFailed):
            await endpoint.ask(request(model="old", temperature=0.2))
        await endpoint.ask(request(model="new", temperature=0.2))
        assert server.requests[-1].body["temperature"] == 0.2


async def test_a_cap_that_is_ignored_is_said_in_the_other_word(opened: Any) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 900}
    async with ChatEndpoint(lambda _: Answer("z" * 3600, usage=usage)) as server:
        endpoint = opened(server.url)
        assert (await endpoint.ask(request())).usage.output == 900
        for _ in range(2):
            await endpoint.ask(request())
            assert server.requests[-1].body["max_completion_tokens"] == 256
        server.rule = lambda _: "parameter:max_completion_tokens"
        with pytest.raises(TryFailed, match="max_completion_tokens"):
            await endpoint.ask(request())
        await endpoint.ask(request())
        assert server.requests[-1].body["max_tokens"] == 256, "better than no cap at all"


async def test_the_cap_is_said_in_the_word_that_is_passed_over_by_nobody_and_refused_by_openai_alone() -> None:
    for url, word in (("https://api.openai.com/v1", "max_completion_tokens"), ("https://lab.example/v1", "max_tokens")):
        endpoint = Endpoint(url)
        body = chat_completions.body(request(), frozenset(), endpoint.caps_for("test-model"))
        assert {"max_tokens", "max_completion_tokens"} & body.keys() == {word}


async def test_an_unknown_model_names_those_that_are_there(opened: Any) -> None:
    async with ChatEndpoint(faults=["404:nope"], models=["alpha", "beta"]) as server:
        with pytest.raises(TryFailed) as failed:
            await opened(server.url).ask(request())
        assert failed.value.remedy == "Models there: alpha, beta."
        assert await opened(server.url).models() == ("alpha", "beta")


async def test_a_wrong_key_names_the_variable(opened: Any) -> None:
    async with ChatEndpoint(key="right") as server:
        with pytest.raises(TryFailed) as failed:
            await opened(server.url, "wrong", key_name="LAB_KEY").ask(request())
        assert failed.value.remedy == "Check the key in LAB_KEY."
        assert (await opened(server.url, "right").ask(request())).text == "ok"


async def test_the_key_reaches_neither_errors_nor_logs(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with ChatEndpoint(faults=[f"401:{KEY}", f"418:{KEY}", f"redirect:http://localhost/{KEY}"]) as server:
        endpoint = opened(server.url, KEY)
        for _ in range(3):
            with pytest.raises(TryFailed) as failed:
                await endpoint.ask(request())
            assert KEY not in repr(failed.getrepr())
    assert KEY not in caplog.text
    assert KEY not in repr(ModelPlace(key=KEY))


@pytest.mark.parametrize("key", ["test", "k", "unittest", "tokens", "chatcmpl-1", "import"])
async def test_a_key_that_is_a_word_changes_no_answer(opened: Any, key: str) -> None:
    code = {"path": "test_k.py", "content": "import unittest  # tokens, chatcmpl-1"}
    usage = {"prompt_tokens": 30, "completion_tokens": 90}
    async with ChatEndpoint(answers=[Answer("{test} k", calls=[("write_file", code)], usage=usage)]) as server:
        reply = await opened(server.url, key).ask(request())
    assert (reply.text, json.loads(reply.calls[0].arguments)) == ("{test} k", code)
    assert (reply.usage.input, reply.usage.output, reply.usage.estimated) == (30, 90, False)


async def test_a_key_that_is_a_word_is_hidden_where_a_failure_quotes_it(opened: Any) -> None:
    async with ChatEndpoint(faults=["418:test, of a tester", "418:x"], models=["test", "tester"]) as server:
        with pytest.raises(TryFailed) as failed:
            await opened(server.url, "test").ask(request())
        assert "***, of a tester" in str(failed.value)
        assert await opened(server.url, "test").models() == ("test", "tester")


@pytest.mark.parametrize("key", [KEY, 'sk-"quoted"\\-0123456789'])
async def test_a_key_that_an_endpoint_repeats_is_in_no_reply(opened: Any, key: str) -> None:
    told = Answer(f"it is {key}.", calls=[("say", f"[{key}]")], refusal=f"no {key}")
    async with ChatEndpoint(answers=[told], models=[f"m-{key}"]) as server:
        endpoint = opened(server.url, key)
        reply = await endpoint.ask(request())
        assert (reply.text, reply.calls[0].arguments, reply.refusal) == ("it is ***.", "[***]", "no ***")
        assert await endpoint.models() == ("m-***",)


async def test_a_key_is_hidden_before_what_quotes_it_is_cut(opened: Any) -> None:
    async with ChatEndpoint(faults=[f"418:{'x' * 190}{KEY}", f"418:{'x' * 190}{KEY}"]) as server:
        with pytest.raises(TryFailed) as failed:
            await opened(server.url, KEY).ask(request())
        assert KEY[:5] not in str(failed.value)


async def test_a_redirect_takes_the_key_nowhere(opened: Any) -> None:
    async with ChatEndpoint() as other, ChatEndpoint(rule=lambda _: f"redirect:{other.url}/chat/completions") as server:
        with pytest.raises(TryFailed, match="points to"):
            await opened(server.url, KEY).ask(request())
        assert other.count == 0


async def test_the_environment_neither_adds_headers_nor_sends_calls_elsewhere(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer other\nX-Extra: 1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with ChatEndpoint() as server:
        await opened(server.url, KEY).ask(request())
        await opened(server.url).ask(request())
        with_key, without = (received.headers for received in server.requests)
    assert with_key["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in without
    assert {name.lower() for name in with_key} == {
        *("host", "accept", "accept-encoding", "authorization", "content-type", "content-length", "user-agent")
    }


async def test_calls_in_flight_are_bounded(opened: Any) -> None:
    async with ChatEndpoint(latency_s=0.01) as server:
        endpoint = opened(server.url, calls=4)
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(endpoint.ask(request()))
        assert (server.count, server.together) == (20, 4)


async def test_all_calls_wait_as_long_as_a_rate_limit_says(opened: Any) -> None:
    async with ChatEndpoint(faults=["429:0.3"]) as server:
        endpoint = opened(server.url, calls=8)
        with pytest.raises(TryFailed) as failed:
            await endpoint.ask(request())
        assert (failed.value.retry_after_s, endpoint.gate.limit) == (0.3, 4)
        begun = time.monotonic()
        await asyncio.gather(*(endpoint.ask(request()) for _ in range(3)))
        assert time.monotonic() - begun > 0.2
        assert server.requests[1].at - server.requests[0].at > 0.29
        assert endpoint.gate.limit == 7


async def test_a_block_longer_than_the_calls_patience_fails_without_being_sent(opened: Any) -> None:
    async with ChatEndpoint(faults=["429:3600"]) as server:
        endpoint = opened(server.url)
        for _ in range(2):
            with pytest.raises(TryFailed) as failed:
                await endpoint.ask(request())
            assert failed.value.kind == "rate_limited"
            assert failed.value.retry_after_s == pytest.approx(3600, abs=5)
        assert server.count == 1


async def test_one_storm_of_rate_limits_halves_once(opened: Any) -> None:
    async with ChatEndpoint(rule=lambda _: "429:0", latency_s=0.02) as server:
        endpoint = opened(server.url, calls=16)
        await asyncio.gather(*(endpoint.ask(request()) for _ in range(16)), return_exceptions=True)
        assert endpoint.gate.limit == 8


@pytest.mark.parametrize(("asked_s", "blocks_s"), [(None, [1, 2, 4]), (0.0, [0, 2, 4]), (3.0, [3, 3, 4])])
def test_rate_limits_in_a_row_block_longer_and_longer_whatever_they_ask_for(
    asked_s: float | None, blocks_s: list[float]
) -> None:
    health = EndpointHealth()
    gate = CallGate(16, health)
    for turn, block_s in enumerate(blocks_s):
        begun = health.blocked_until = time.monotonic()
        gate.refused(turn, asked_s)
        assert health.blocked_until - begun == pytest.approx(block_s, abs=0.5)


def test_a_block_has_an_end_after_any_number_of_rate_limits() -> None:
    gate = CallGate(16, EndpointHealth())
    for turn in range(2_000):
        gate.refused(turn, None)


async def test_users_of_the_same_url_and_key_share_one_endpoint_until_the_last_closes() -> None:
    async with ChatEndpoint() as server:
        one, two = (OpenAIChat("test-model", ModelPlace(url=server.url, key=KEY, calls=n)) for n in (8, 4))
        other = shared_endpoint(server.url, "another")
        assert one.health is two.health
        assert other.health is not one.health
        await one.ask(request())
        await one.close()
        assert (await two.ask(request())).text == "ok"
        await two.close()
        await other.close()
        fresh = shared_endpoint(server.url, KEY)
        assert fresh.health.answered == 0
        await fresh.close()


async def test_cancelling_a_call_frees_its_place(opened: Any) -> None:
    async with ChatEndpoint(faults=["no_answer"]) as server:
        endpoint = opened(server.url, calls=1)
        held = asyncio.create_task(endpoint.ask(request()))
        waiting = asyncio.create_task(endpoint.ask(request()))
        await server.arrived.wait()
        waiting.cancel()
        held.cancel()
        await asyncio.gather(held, waiting, return_exceptions=True)
        assert (await endpoint.ask(request())).text == "ok"


async def test_odd_text_reaches_the_server(opened: Any) -> None:
    async with ChatEndpoint() as server:
        endpoint = opened(server.url)
        await endpoint.ask(request("half a pair: \ud83d"))
        await endpoint.ask(request("é\u202e\x00 \U0001f600"))
        assert server.requests[1].body["messages"][0]["content"] == "é\u202e\x00 \U0001f600"


@pytest.mark.parametrize("url", ["ftp://host/v1", "https://me:secret@host/v1", "host/v1", "https://"])
async def test_a_url_of_no_use_is_refused_without_its_login(url: str) -> None:
    with pytest.raises(ModelUnavailable) as refused:
        Endpoint(url)
    assert "secret" not in str(refused.value)


async def test_a_key_that_is_missing_or_broken_names_its_variable() -> None:
    with pytest.raises(ModelUnavailable, match="LAB_KEY"):
        OpenAIChat("m", ModelPlace(url="http://127.0.0.1:1/v1", key_name="LAB_KEY"))
    with pytest.raises(ModelUnavailable, match="LAB_KEY") as refused:
        Endpoint("http://127.0.0.1:1/v1", "sk\nx", key_name="LAB_KEY")
    assert "sk" not in str(refused.value)


async def test_512_calls_at_once_are_all_answered(opened: Any) -> None:
    async with ChatEndpoint(fixed="yes") as server:
        endpoint = opened(server.url, calls=512)
        replies = await asyncio.gather(*(endpoint.ask(request(timeout_s=60.0)) for _ in range(512)))
        assert {reply.text for reply in replies} == {"yes"}
        assert server.count == 512


async def test_a_call_that_waited_while_its_process_stood_still_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.completions.gate.STOOD_STILL_S", 0.1)
    health = EndpointHealth()
    gate = CallGate(2, health)

    async def call() -> None:
        async with gate.turn(5.0):
            pass

    health.blocked_until = time.monotonic() + 0.05
    calling = asyncio.create_task(call())
    await asyncio.sleep(0)
    time.sleep(0.3)  # as if halted
    with pytest.raises(TryFailed, match="stood still") as raised:
        await calling
    assert (raised.value.kind, raised.value.unproven) == ("rate_limited", False)
    await call()
    assert gate._out == 0


async def test_the_gate_hands_places_out_in_the_order_they_were_asked_for() -> None:
    gate = CallGate(2, EndpointHealth())
    order: list[int] = []

    async def pass_through(number: int) -> None:
        async with gate.turn(1.0):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(pass_through(number) for number in range(10)))
    assert all(a < b for a, b in pairwise(order))


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "-7"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": f"Mon, 01 Jan {10**20} 00:00:00 GMT"}, None),
        ({"retry-after": "Mon, 01 Jan 9999 00:00:00 -9999"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_a_date_or_nothing(headers: dict[str, str], seconds: float | None) -> None:
    assert chat_completions.retry_after(headers, NOW) == seconds


def refusal(message: str, param: str | None = None, code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "param": param, "code": code}}).encode()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", "max_tokens"), "max_tokens"),
        (refusal("Unrecognized request argument supplied: max_completion_tokens"), "max_completion_tokens"),
        (refusal("This model does not support response format `json_schema`"), "response_format"),
        (refusal("unsupported value: 'temperature' does not support 0.2, see max_tokens"), "temperature"),
        (refusal("'max_tokens' is too large: 4096. The maximum context length is 4096 tokens"), None),
        (refusal("Invalid value for messages[0]"), None),
        (b'{"detail": "temperature not allowed"}', "temperature"),
        (b"no JSON at all", None),
    ],
)
def test_a_refusal_names_a_parameter_of_ours_or_none(content: bytes, named: str | None) -> None:
    sent = {"max_tokens": 1, "max_completion_tokens": 1, "temperature": 0.2, "response_format": {}}
    assert chat_completions.parameter_named(400, content, sent) == named
    assert chat_completions.parameter_named(500, content, sent) is None


GEMINI_SCHEMA = (
    "Invalid JSON payload received. Unknown name \"additionalProperties\" at 'generation_config.response_schema'"
)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (orjson.dumps([{"error": {"code": 400, "message": GEMINI_SCHEMA}}]), "response_format"),
        (refusal("The provided JSON schema contains features that are not supported"), "response_format"),
        (refusal("Failed to generate JSON. Please adjust your prompt.", code="json_validate_failed"), None),
    ],
)
def test_a_schema_that_an_endpoint_does_not_take_is_left_out(content: bytes, named: str | None) -> None:
    assert chat_completions.parameter_named(400, content, {"response_format": {}}) == named


@pytest.mark.parametrize(
    ("status", "error", "kind", "remedy"),
    [
        (
            400,
            {"message": "The input token count (120) exceeds the maximum number of tokens allowed (90)."},
            "too_long",
            "",
        ),
        (400, {"message": "This model's maximum prompt length is 131072"}, "too_long", ""),
        (400, {"message": "Too much.", "code": 400, "type": "exceed_context_size_error"}, "too_long", ""),
        (422, {"message": "`inputs` must have less than 1024 tokens. Given: 1500"}, "too_long", ""),
        (400, {"message": "Your credit balance is too low to access the API."}, "unavailable", "credit"),
        (403, {"message": "user quota is not enough", "code": "insufficient_user_quota"}, "unavailable", "credit"),
        (429, {"message": "No more.", "code": None, "type": "insufficient_quota"}, "unavailable", "credit"),
        (429, {"message": "You exceeded your current quota, please check your plan."}, "rate_limited", ""),
        (403, {"message": "Input was flagged by moderation", "code": 403}, "refused", ""),
        (400, {"message": "foo/bar is not a valid model ID", "code": 400}, "unavailable", ""),
        (400, {"message": "Invalid model: foo", "type": "invalid_model"}, "unavailable", ""),
        (400, {"message": "Model Not Exist"}, "unavailable", ""),
        (400, {"message": "Invalid value for messages[0]"}, "refused", ""),
        (504, {"message": "Gateway Timeout"}, "lost", ""),
        (524, {"message": "A timeout occurred"}, "lost", ""),
        (408, {"message": "Request Timeout"}, "server", ""),
        (404, {"message": "No endpoints found that support tool use."}, "unavailable", "dialogue"),
        (500, {"message": "tools param requires --jinja flag", "code": 500}, "server", "dialogue"),
        (400, {"message": "it does not support tools"}, "refused", "dialogue"),
        (400, {"message": "Missing `reasoning_content` field in the assistant message"}, "refused", "dialogue"),
        (400, {"message": "Function call is missing a thought_signature"}, "refused", "dialogue"),
        (400, {"message": "Failed to call a function.", "code": "tool_use_failed"}, "nonsense", "dialogue"),
        (400, {"message": "Failed to generate JSON.", "code": "json_validate_failed"}, "nonsense", ""),
    ],
)
def test_a_refusal_is_understood_in_the_words_of_many(
    status: int, error: dict[str, Any], kind: str, remedy: str
) -> None:
    for content in (orjson.dumps({"error": error}), orjson.dumps([{"error": error}])):
        failure = chat_completions.failure(status, {}, content, NOW)
        assert (failure.kind, failure.unproven) == (kind, kind in {"nonsense", "lost"})
        assert remedy in failure.remedy
        assert bool(remedy) == bool(failure.remedy)
        assert str(failure).endswith(f"HTTP {status}: {error['message']}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries({}, optional={"content": JSON, "tool_calls": JSON, "refusal": JSON})
CHOICE = st.fixed_dictionaries({}, optional={"message": MESSAGE | JSON, "finish_reason": JSON})
USAGE_KEYS = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
]
USAGE = st.dictionaries(st.sampled_from(USAGE_KEYS), JSON)


@given(
    st.fixed_dictionaries({}, optional={"choices": st.lists(CHOICE, max_size=2) | JSON, "usage": USAGE | JSON}) | JSON
)
def test_any_json_is_read_as_a_reply_or_as_nonsense(answer: object) -> None:
    try:
        reply = chat_completions.read(json.dumps(answer).encode(), request(), 100)
    except TryFailed as failure:
        assert failure.kind == "nonsense"  # noqa: PT017
        return
    assert reply.usage.input >= 0
    assert reply.usage.output >= 0
    assert 0 <= reply.usage.cached <= reply.usage.input
    assert len({call.id for call in reply.calls}) == len(reply.calls)


@given(st.integers(400, 599), st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_error_body_is_told_in_one_printable_line(status: int, content: bytes) -> None:
    failure = chat_completions.failure(status, {}, content, NOW)
    assert str(failure).isprintable()
    assert len(str(failure)) < 400
