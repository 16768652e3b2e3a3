"""A log answers as its model did; what it does not know is shown beside what it does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agents import tries
from agents.conversation.recording import Recording
from agents.errors import ModelUnavailable
from agents.model import EndpointHealth, ModelPlace, ModelReply, ModelRequest, ToolSchema, TryFailed
from agents.models.recorded import Recorded, RecordedFirst
from bus.codec import encode
from bus.envelope import Envelope
from bus.events import (
    CallRequest,
    Fact,
    GoalSubmitted,
    Message,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    SubtaskAssigned,
    Usage,
)
from bus.setup import RoleSetup, Setup, Subtask

SYSTEM: Message = {"role": "system", "content": "You write."}
TOOLS = (ToolSchema("write_file", "", {}), ToolSchema("read_file", "", {}))
USAGE = Usage(input=7, output=3)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


class Log:
    """Writes events as a run would; each conversation is an attempt of a subtask of its own."""

    def __init__(self) -> None:
        setup = Setup(name="x", goal="x", roles={"coder": RoleSetup(model="lab:m", dialogue="json", window=999)})
        self.events = [self.envelope(GoalSubmitted(setup=setup), None)]

    def envelope(self, event: Fact, subject: str | None) -> Envelope:
        return Envelope("id", "/swarm/agent/local/coder", event, "run-1", "2026-01-01T00:00:00Z", subject)

    def says(self, subject: str, *facts: Fact) -> None:
        self.events += [self.envelope(fact, subject) for fact in facts]

    def assigned(self, subject: str, role: str = "coder") -> None:
        subtask = Subtask(id=subject, role=role, instruction="x")
        self.says(subject, SubtaskAssigned(subtask=subtask, attempt=1, agent="a", deadline_ms=1))

    def conversation(self, subject: str, text: str, answer: str = "done", role: str = "coder") -> None:
        self.assigned(subject, role)
        self.says(subject, asked(SYSTEM, user(text)), answered(answer))

    def model(self, folder: Path) -> Recorded:
        (folder / "run.jsonl").write_bytes(b"".join(encode(one) + b"\n" for one in self.events))
        return Recorded("run.jsonl", ModelPlace(folder=folder))


def asked(*messages: Message, path: int = 0, number: int = 1, **more: Any) -> ModelAsked:
    values = {"digest": "", "model": "lab:m", "tools": ("write_file", "read_file"), "input_bound": 1, "max_tokens": 1}
    return ModelAsked(attempt=1, path=(path,), number=number, messages=messages, **values | more)


def answered(text: str | None, path: int = 0, calls: tuple[CallRequest, ...] = ()) -> ModelAnswered:
    return ModelAnswered(attempt=1, path=(path,), number=1, text=text, calls=calls, usage=USAGE)


def failed(kind: str, number: int = 1, wait_ms: int | None = None) -> ModelTryFailed:
    return ModelTryFailed(attempt=1, path=(0,), number=number, kind=kind, reason=f"it was {kind}", wait_ms=wait_ms)


def request(*messages: Message, role: str = "coder", tools: Sequence[ToolSchema] = TOOLS, **more: Any) -> ModelRequest:
    return ModelRequest("run.jsonl", messages, 100, tools=tools, role=role, **more)


async def refusal(model: Recorded, *messages: Message, **more: Any) -> str:
    with pytest.raises(TryFailed) as error:
        await model.ask(request(*messages, **more))
    assert error.value.kind == "unavailable"
    told, _, remedy = str(error.value).rpartition("\n")
    assert "--record-new" in remedy
    return told


async def test_a_recorded_request_is_answered_as_it_was_whatever_model_and_sampling(tmp_path: Path) -> None:
    log = Log()
    call = CallRequest(id="x", name="write_file", arguments="{}")
    log.assigned("a")
    log.says("a", asked(SYSTEM, user("hi"), sampling={"temperature": 0.2}), answered(None, calls=(call,)))
    model = log.model(tmp_path)
    reply = await model.ask(request(SYSTEM, user("hi"), temperature=0.9))
    assert reply == ModelReply(None, USAGE, (call,))
    assert model.health.answered == 1
    await model.close()


async def test_a_request_asked_several_times_is_answered_in_the_order_of_the_log(tmp_path: Path) -> None:
    log = Log()
    log.conversation("a", "hi", "first")
    log.conversation("b", "hi", "second")
    model = log.model(tmp_path)
    assert [(await model.ask(request(SYSTEM, user("hi")))).text for _ in range(2)] == ["first", "second"]
    told = await refusal(model, SYSTEM, user("hi"))
    assert "asked 2 times when it was recorded (b, attempt 1), and is asked once more now" in told


async def test_how_long_something_took_where_it_lay_and_what_time_it_was_are_not_compared(tmp_path: Path) -> None:
    log = Log()
    log.conversation("a", "Ran 2 tests in 0.001s at <f at 0x7f00aa11bb22>, 2026-01-01T10:00:00Z", "one")
    log.conversation("b", "Ran 2 tests in 0.002s at <f at 0x7f00aa11bb22>, 2026-01-01T10:00:00Z", "two")
    model = log.model(tmp_path)
    later = "Ran 2 tests in {}s at <f at 0x7f00aa11bb22>, 2026-01-01T10:00:00Z"
    assert (await model.ask(request(SYSTEM, user(later.format("0.002"))))).text == "two", "the very same goes first"
    assert (await model.ask(request(SYSTEM, user(later.format("1.5"))))).text == "one"
    told = await refusal(log.model(tmp_path), SYSTEM, user("Ran 3 tests in 0.009s at <f at 0x5500aa11bb22>, 10:00"))
    assert "\n-Ran 2 tests in ~ at <f at ~>, ~\n+Ran 3 tests in ~ at <f at ~>, 10:00" in told


async def test_instructions_are_compared_to_the_letter(tmp_path: Path) -> None:
    log = Log()
    log.assigned("a")
    log.says("a", asked({"role": "system", "content": "Wait 1.5 s."}, user("hi")), answered("done"))
    told = await refusal(log.model(tmp_path), {"role": "system", "content": "Wait 2.5 s."}, user("hi"))
    assert "message 1 of 2, of the system, differs first:\n--- recorded\n+++ now\n-Wait 1.5 s.\n+Wait 2.5 s." in told


async def test_the_nearest_is_of_that_role_and_shown_where_it_parts(tmp_path: Path) -> None:
    log = Log()
    log.conversation("far", "Paint the house in green.")
    log.conversation("near", "Write two files.\nThen stop.")
    log.conversation("other", "Write five files.\nThen stop!", role="critic")
    told = await refusal(log.model(tmp_path), SYSTEM, user("Write five files.\nThen stop."))
    assert "no answer to a request of role 'coder': the nearest of 2 that it holds of that role is in near" in told
    assert "\n-Write two files.\n+Write five files.\n Then stop." in told


async def test_of_two_that_are_as_near_the_one_is_shown_that_is_not_asked_any_more(tmp_path: Path) -> None:
    log = Log()
    log.conversation("a", "Write a letter.")
    log.conversation("b", "Write a report.")
    for still_asked, shown in (("Write a letter.", "b"), ("Write a report.", "a")):
        model = log.model(tmp_path)
        await model.ask(request(SYSTEM, user(still_asked)))
        assert f"is in {shown}, attempt 1" in await refusal(model, SYSTEM, user("Write a poem."))


async def test_a_longer_conversation_is_told_from_the_point_where_it_goes_on(tmp_path: Path) -> None:
    log = Log()
    log.conversation("a", "hi")
    told = await refusal(log.model(tmp_path), SYSTEM, user("hi"), {"role": "assistant", "content": "done"}, user("so?"))
    assert "the first 2 messages are the same, then now goes on with one of the assistant:" in told
    assert "\n+done" in told


async def test_other_tools_are_told_too(tmp_path: Path) -> None:
    log = Log()
    log.conversation("a", "hi")
    told = await refusal(log.model(tmp_path), SYSTEM, user("hi"), tools=TOOLS[:1])
    assert "the messages are the same, the tools are not: recorded write_file, read_file; now write_file" in told
    assert await log.model(tmp_path).ask(request(SYSTEM, user("hi"), tools=TOOLS[::-1])), "their order is nothing"


async def test_a_role_that_was_never_asked_is_told_those_that_were(tmp_path: Path) -> None:
    log = Log()
    log.conversation("a", "hi")
    assert "it holds no request of that role (it has roles: coder)" in await refusal(
        log.model(tmp_path), SYSTEM, user("hi"), role="critic"
    )


async def test_the_difference_is_cut_to_what_a_person_reads(tmp_path: Path) -> None:
    log = Log()
    log.conversation("a", "\n".join(f"line {number}" for number in range(5_000)))
    told = await refusal(log.model(tmp_path), SYSTEM, user("\n".join(f"row {number}" for number in range(5_000))))
    assert "lines more" in told
    assert len(told) < 3_000
    log.conversation("b", "x" * 100_000 + "a" + "y" * 100_000)
    told = await refusal(log.model(tmp_path), SYSTEM, user("x" * 100_000 + "b" + "y" * 100_000))
    assert len(told) < 3_000
    assert "xxaay" not in told


@pytest.mark.parametrize("kind", ["too_long", "refused", "lost", "server", "too_big"])
async def test_what_failed_in_the_end_fails_at_once_as_it_did(tmp_path: Path, kind: str) -> None:
    log = Log()
    log.assigned("a")
    log.says("a", asked(SYSTEM, user("hi")), failed(kind))
    with pytest.raises(TryFailed) as error:
        await log.model(tmp_path).ask(request(SYSTEM, user("hi")))
    assert (error.value.kind, str(error.value)) == (kind, f"it was {kind}")
    after = tries.after(error.value, 1, EndpointHealth(), 0, 60, 0)
    assert after == tries.GiveUp(f"it was {kind}")


async def test_a_try_that_was_followed_by_another_is_not_played(tmp_path: Path) -> None:
    log = Log()
    log.assigned("a")
    log.says("a", asked(SYSTEM, user("hi")), failed("rate_limited", wait_ms=500), asked(SYSTEM, user("hi"), number=2))
    log.says("a", answered("at last"))
    assert (await log.model(tmp_path).ask(request(SYSTEM, user("hi")))).text == "at last"


async def test_roles_come_from_the_request_and_where_a_log_was_narrowed_from_who_spoke(tmp_path: Path) -> None:
    log = Log()
    log.says("a", asked(SYSTEM, user("hi")), answered("done"))
    assert (await log.model(tmp_path).ask(request(SYSTEM, user("hi"), role="coder"))).text == "done"


def test_a_recording_knows_how_its_roles_were_set_up() -> None:
    role = Recording(Log().events).roles["coder"]
    assert (role.dialogue, role.window) == ("json", 999)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is not there"),
        (b"\xff\n", "line 1: not JSON"),
        (b'\n{"specversion":"1.0"}', "line 2: not an event of ours"),
        (b'{"type":"swarm.ModelAsked.v99"}', "line 1: event type 'swarm.ModelAsked.v99' is of a newer version"),
    ],
)
def test_a_file_that_is_no_recording_is_told_with_its_line(tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "run.jsonl").write_bytes(content)
    with pytest.raises(ModelUnavailable, match=told):
        Recorded("run.jsonl", ModelPlace(folder=tmp_path))


def test_a_folder_and_a_log_that_was_cut_are_no_recordings(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no regular file"):
        Recorded(".", ModelPlace(folder=tmp_path))
    log = Log()
    log.says("a", asked(user("so?"), path=3, follows=(1,), keeps=2))
    with pytest.raises(
        ModelUnavailable, match=r"run-1 a, attempt 1, effect 3 follows 1, whose answer is not in the log"
    ):
        log.model(tmp_path)


class Live:
    """A live model that counts its requests."""

    def __init__(self) -> None:
        self.health = EndpointHealth()
        self.asked = 0

    async def prepare(self) -> None:
        self.prepared = True

    async def ask(self, _: ModelRequest) -> ModelReply:
        self.asked += 1
        return ModelReply("live", USAGE)

    async def close(self) -> None:
        self.closed = True


async def test_a_live_model_is_asked_only_what_is_not_recorded() -> None:
    log, live = Log(), Live()
    log.conversation("a", "hi", "recorded")
    model = RecordedFirst(Recording(log.events), live)
    await model.prepare()
    texts = [(await model.ask(request(SYSTEM, user(text)))).text for text in ("hi", "who?", "hi")]
    await model.close()
    assert texts == ["recorded", "live", "live"]
    assert (live.asked, live.prepared, live.closed) == (2, True, True)


def test_what_a_recording_lacks_of_another_log_is_found_by_attempt() -> None:
    log, other = Log(), Log()
    log.conversation("a", "hi")
    other.conversation("a", "hi")
    assert Recording(log.events).missing(other.events, {"coder"}) == set()
    other.conversation("b", "hi")
    other.conversation("c", "ho", role="critic")
    assert Recording(log.events).missing(other.events, {"coder"}) == {("b", 1)}
    assert Recording(log.events).missing(other.events, {"coder", "critic"}) == {("b", 1), ("c", 1)}
