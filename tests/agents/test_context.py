"""All that a role may use: each effect is recorded, and answered from the record when the role is run again."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue

from agents.briefing import Briefing, Deed
from agents.canonical import digest_of
from agents.context import Context, Means
from agents.conversation.fitting import OUTPUT_CAP
from agents.effects import Effects
from agents.errors import (
    AnswerUnusable,
    BadCriterion,
    Diverged,
    InDoubt,
    ModelFailed,
    RunMustPause,
    ToolFailed,
    ToolRefused,
)
from agents.files.attempt_folder import AttemptFolder
from agents.model import EndpointHealth, ModelReply, ModelRequest, TryFailed, TryKind
from agents.sandbox import Completed, Ended, Sandbox
from agents.tool import Tool, ToolContext, tool
from agents.tools.project_files import read_file, write_file
from agents.tools.run_command import run_command
from bus.events import (
    CallRequest,
    CheckEnded,
    Effect,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    ToolCalled,
    ToolReturned,
    Usage,
    ValueDrawn,
)
from bus.file_store import MemoryFileStore
from bus.setup import FileRef, RoleSetup
from swarm.preparation.model_choice import defaults_of
from swarm.preparation.parts import load_tool
from swarm.scenario.rules import BUILT_IN_TOOLS

USAGE = Usage(input=5, output=2)


class Answers:
    """A model with a list of replies; what fails is raised."""

    def __init__(self, *replies: ModelReply | TryFailed | str) -> None:
        self.health = EndpointHealth()
        self.replies = [*replies]
        self.requests: list[ModelRequest] = []

    async def ask(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, TryFailed):
            raise reply
        self.health.answered += 1
        return ModelReply(reply, USAGE) if isinstance(reply, str) else reply

    async def close(self) -> None:
        """Hold nothing."""


def call(name: str, **arguments: JsonValue) -> ModelReply:
    return ModelReply(None, USAGE, (CallRequest(id="1", name=name, arguments=json.dumps(arguments)),), "tool_calls")


class Log:
    """An orchestrator that records and grants everything."""

    def __init__(self, recorded: Sequence[Effect] = ()) -> None:
        self.events = [*recorded]

    async def ask(self, event: Effect) -> int:
        self.events.append(event)
        return getattr(event, "max_tokens", 0)

    async def tell(self, event: Effect) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


class Maker:
    """Makes contexts of one attempt, one after the other, as a role that is run again gets them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryFileStore()

    def __call__(
        self,
        model: Answers | None = None,
        *,
        tools: Sequence[Tool] = (),
        recorded: Sequence[Effect] = (),
        attempt: int = 1,
        start: Mapping[str, FileRef] | None = None,
        outward: Mapping[str, Deed] | None = None,
        settled: Mapping[str, str] | None = None,
        run: str = "run-1",
        window: int | None = None,
        deadline_s: float = 60.0,
    ) -> tuple[Context, Log]:
        log = Log(recorded)
        effects = Effects(recorded, log)
        setup = RoleSetup(model="test:model")
        context = Context(
            role="tester",
            request="it",
            attempt=attempt,
            feedback=(),
            briefing=Briefing(
                "the goal",
                setup,
                start=start or {},
                base=start or {},
                outward=outward or {},
                settled=settled or {},
                run=run,
            ),
            means=Means(model or Answers(), {one.name: one for one in tools}, temperature=0.25, window=window),
            effects=effects,
            folder=AttemptFolder(self.folder, self.store, start or {}, start or {}),
            deadline_s=deadline_s,
        )
        effects.enter()
        return context, log


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "folder")


class Choice(BaseModel):
    colour: str


async def test_a_conversation_is_recorded_and_not_held_again(make: Maker) -> None:
    model = Answers(call("write_file", path="a.txt", content="hello"), "It is written.")
    context, log = make(model, tools=[write_file])
    assert (await context.converse("s", "u")).text == "It is written."
    assert log.kinds == ["ModelAsked", "ModelAnswered", "ToolCalled", "ToolReturned", "ModelAsked", "ModelAnswered"]
    changes = await context.changes()
    again, second = make(Answers(), tools=[write_file], recorded=log.events)
    assert (await again.converse("s", "u")).text == "It is written."
    assert second.events == log.events
    assert await again.changes() == changes


async def test_the_log_holds_only_the_messages_that_are_new(make: Maker) -> None:
    context, log = make(Answers(call("write_file", path="a", content="x"), "done"), tools=[write_file])
    await context.converse("s", "u")
    first, second = (event for event in log.events if isinstance(event, ModelAsked))
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert [message["role"] for message in second.messages] == ["tool"]
    assert (second.follows, second.keeps) == (first.path, 3)


async def test_an_answer_is_of_the_type_asked_for_and_repaired_once(make: Maker) -> None:
    context, _ = make(Answers("red", '{"colour": "red"}'))
    assert (await context.converse("s", "u", answer=Choice)).data == Choice(colour="red")
    context, _ = make(Answers("red", "still red"))
    with pytest.raises(AnswerUnusable):
        await context.converse("s", "u", answer=Choice)


async def test_an_attempt_after_the_first_is_sampled_otherwise(make: Maker) -> None:
    for attempt, temperature in ((1, 0.25), (2, 0.8)):
        model = Answers("x")
        context, _ = make(model, attempt=attempt)
        await context.converse("s", "u")
        assert model.requests[0].temperature == temperature


async def test_a_failed_try_is_recorded_and_followed_by_another(make: Maker) -> None:
    model = Answers(TryFailed("server", "503", retry_after_s=0.0), TryFailed("nonsense", "<html>", unproven=True), "x")
    context, log = make(model)
    await context.converse("s", "u")
    failures = [event for event in log.events if isinstance(event, ModelTryFailed)]
    assert [(one.number, one.kind, one.unproven, one.wait_ms) for one in failures] == [
        (1, "server", False, 0),
        (2, "nonsense", True, 0),
    ]
    assert [event.number for event in log.events if isinstance(event, ModelAsked)] == [1, 2, 3]


async def test_a_try_whose_end_nobody_knows_is_followed_by_the_next_number(make: Maker) -> None:
    context, log = make(Answers("x"))
    await context.converse("s", "u")
    cut = log.events[:1]
    context, log = make(Answers("y"), recorded=cut)
    assert (await context.converse("s", "u")).text == "y"
    assert [event.number for event in log.events if isinstance(event, ModelAsked)] == [1, 2]


async def test_a_call_waits_no_longer_than_its_attempt_has_left(make: Maker) -> None:
    model = Answers("x", TryFailed("rate_limited", "429", retry_after_s=0.3), "y")
    context, _ = make(model, deadline_s=0.5)
    await context.converse("s", "u")
    await asyncio.sleep(0.3)
    with pytest.raises(RunMustPause, match="outlasts the deadline"):
        await context.converse("s", "v")


class Busy(Answers):
    """A model that has answered another call by the time this one fails."""

    async def ask(self, request: ModelRequest) -> ModelReply:
        self.health.answered += 1
        return await super().ask(request)


LOST = TryFailed("lost", "no whole answer", unproven=True)


async def test_an_endpoint_that_answers_nobody_pauses_the_run(make: Maker) -> None:
    context, log = make(Answers(LOST, LOST))
    with pytest.raises(RunMustPause, match="no call to this endpoint"):
        await context.converse("s", "u")
    assert [event.wait_ms for event in log.events if isinstance(event, ModelTryFailed)] == [0, 0]
    again, second = make(Answers("x"), recorded=log.events)
    assert (await again.converse("s", "u")).text == "x"
    assert [event.number for event in second.events if isinstance(event, ModelAsked)] == [1, 2, 3]


async def test_a_call_that_fails_while_others_are_answered_ends_the_attempt(make: Maker) -> None:
    context, log = make(Busy(LOST, LOST))
    with pytest.raises(ModelFailed, match="no whole answer"):
        await context.converse("s", "u")
    assert [event.wait_ms for event in log.events if isinstance(event, ModelTryFailed)] == [0, None]
    again, second = make(Answers(), recorded=log.events)
    with pytest.raises(ModelFailed, match="no whole answer"):
        await again.converse("s", "u")
    assert second.events == log.events


@pytest.mark.parametrize(("kind", "retryable"), [("refused", False), ("too_big", True)])
async def test_another_attempt_is_worth_it_unless_the_endpoint_refused_the_call(
    make: Maker,
    kind: TryKind,
    retryable: bool,  # noqa: FBT001
) -> None:
    context, log = make(Busy(TryFailed(kind, "told so")))
    with pytest.raises(ModelFailed, match="told so") as live:
        await context.converse("s", "u")
    again, _ = make(Answers(), recorded=log.events)
    with pytest.raises(ModelFailed, match="told so") as recorded:
        await again.converse("s", "u")
    assert (live.value.retryable, recorded.value.retryable) == (retryable, retryable)


async def test_what_ends_a_call_says_what_a_person_can_do(make: Maker) -> None:
    context, log = make(Answers(TryFailed("refused", "HTTP 400: it has no tools", remedy="Set `dialogue: json`.")))
    with pytest.raises(ModelFailed, match=r"^HTTP 400: it has no tools\. Set `dialogue: json`\.$"):
        await context.converse("s", "u")
    again, _ = make(Answers(), recorded=log.events)
    with pytest.raises(ModelFailed, match="Set `dialogue: json`"):
        await again.converse("s", "u")
    context, _ = make(Answers(TryFailed("too_long", "HTTP 400: at most 90 tokens")))
    with pytest.raises(AnswerUnusable, match=r"`window`.*HTTP 400: at most 90 tokens"):
        await context.converse("s", "u")


async def test_an_estimated_usage_is_never_more_than_was_reserved(make: Maker) -> None:
    absurd = ModelReply("x", Usage(input=10**9, output=10**9, cached=10**9, estimated=True))
    context, log = make(Answers(absurd))
    await context.converse("s", "u", max_tokens=50)
    asked, answered = log.events
    assert isinstance(asked, ModelAsked)
    assert isinstance(answered, ModelAnswered)
    assert answered.usage == Usage(input=asked.input_bound, output=50, cached=asked.input_bound, estimated=True)


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("ollama:qwen3:8b", 2_048),
        ("ollama:llama3.2:3b", 2_048),
        ("llamacpp:model.gguf", 2_048),
        ("local:qwen2.5-coder-1.5b", 4_096),
        ("openai:gpt-5-mini", 4_096),
        ("lab:unheard-of", 4_096),
    ],
)
async def test_an_answer_leaves_room_for_what_is_asked_in_the_window_of_any_model(
    make: Maker, model: str, most: int
) -> None:
    tools = [load_tool(name, Path()) for name in BUILT_IN_TOOLS["coder"]]
    context, log = make(Answers("x"), tools=tools, window=defaults_of(model).context)
    assert (await context.converse("s" * 1_000, "u" * 2_000)).text == "x"
    asked = log.events[0]
    assert isinstance(asked, ModelAsked)
    assert asked.max_tokens == most


async def test_a_model_with_a_small_window_is_shown_all_that_is_read_for_it(make: Maker) -> None:
    content = "12345678\n" * 1_000
    model = Answers(call("write_file", path="a", content=content), call("read_file", path="a"), "x")
    context, _ = make(model, tools=[read_file, write_file], window=4_096)
    await context.converse("s", "u")
    told = str(model.requests[2].messages[-1]["content"])
    assert "cut out" not in told
    assert told.endswith("of 1000]\n[go on with first_line=" + str(told.count("12345678") + 1) + "]")


async def test_a_tool_that_was_not_granted_is_refused(make: Maker) -> None:
    context, log = make(tools=[read_file])
    with pytest.raises(ToolRefused, match="'write_file' is not granted to role 'tester'"):
        await context.call_tool("write_file", path="a", content="x")
    assert log.events == []
    model = Answers(call("write_file", path="a", content="x"), "given up")
    context, log = make(model, tools=[read_file, write_file])
    await context.converse("s", "u", tools=["read_file"])
    assert log.kinds == ["ModelAsked", "ModelAnswered"] * 2
    assert "write_file" in str(model.requests[1].messages[-1]["content"])


async def test_arguments_that_do_not_fit_run_nothing(make: Maker) -> None:
    context, log = make(tools=[write_file])
    with pytest.raises(ToolFailed, match="'content' is missing"):
        await context.call_tool("write_file", path="a")
    (returned,) = log.events
    assert isinstance(returned, ToolReturned)
    assert returned.wrong_arguments


async def test_an_argument_of_a_tool_may_have_any_name(make: Maker) -> None:
    @tool(effect="reads")
    async def greet(name: str) -> str:
        """Greet somebody."""
        return f"hello {name}"

    context, _ = make(tools=[greet])
    assert await context.call_tool("greet", name="Ada") == "hello Ada"


@tool(effect="outward", needs_approval=False)
async def post(text: str) -> str:
    """Post a text."""
    POSTED.append(text)
    return "posted"


POSTED: list[str] = []


async def test_an_outward_call_is_announced_and_never_repeated_blindly(make: Maker) -> None:
    POSTED.clear()
    context, log = make(tools=[post])
    assert await context.call_tool("post", text="hello") == "posted"
    assert log.kinds == ["ToolCalled", "ToolReturned"]
    again, _ = make(tools=[post], recorded=log.events)
    assert await again.call_tool("post", text="hello") == "posted"
    doubtful, _ = make(tools=[post], recorded=log.events[:1])
    with pytest.raises(InDoubt, match="post was called in 'it', and nobody knows"):
        await doubtful.call_tool("post", text="hello")
    assert POSTED == ["hello"]


async def test_what_an_earlier_attempt_did_outward_is_not_done_again(make: Maker) -> None:
    POSTED.clear()
    digest = digest_of({"arguments": {"text": "hello"}, "tool": "post"})
    context, log = make(tools=[post], attempt=2, outward={digest: Deed("post", {"text": "hello"}, "posted before")})
    assert await context.call_tool("post", text="hello") == "posted before"
    assert await context.call_tool("post", text="hello again") == "posted"
    assert POSTED == ["hello again"]
    assert log.kinds == ["ToolReturned", "ToolCalled", "ToolReturned"]


@pytest.mark.parametrize("verdict", ["skip", "fail"])
async def test_a_call_that_a_person_said_not_to_repeat_is_taken_for_done(make: Maker, verdict: str) -> None:
    """A role in code goes on as well, also one whose subtask was planned anew."""
    POSTED.clear()
    digest = digest_of({"arguments": {"text": "hello"}, "tool": "post"})
    context, log = make(tools=[post], settled={digest: verdict})
    assert "nobody knows whether it was done" in await context.call_tool("post", text="hello")
    assert POSTED == []
    assert log.kinds == ["ToolReturned"]


def breaking(error: BaseException, *, idempotent: bool = False) -> Tool:
    @tool(effect="outward", needs_approval=False, idempotent=idempotent)
    async def send() -> str:
        """Send something, and break."""
        raise error

    return send


async def test_of_an_outward_tool_that_breaks_nobody_knows_whether_it_acted(make: Maker) -> None:
    reset = ConnectionResetError("reset after it was sent")
    context, log = make(tools=[breaking(reset)])
    with pytest.raises(
        InDoubt, match=r"send broke: ConnectionResetError: reset after it was sent \(test_context.*\); nobody knows"
    ):
        await context.call_tool("send")
    assert log.kinds == ["ToolCalled"]
    for one, says in ((breaking(reset, idempotent=True), "send broke"), (breaking(ToolFailed("no paper")), "no paper")):
        context, log = make(tools=[one])
        with pytest.raises(ToolFailed, match=says):
            await context.call_tool("send")
        assert log.kinds == ["ToolCalled", "ToolReturned"]


@pytest.mark.parametrize("idempotent", [False, True])
async def test_an_outward_call_that_the_role_cut_off_is_not_repeated(make: Maker, *, idempotent: bool) -> None:
    """Unless it may be; what the role asks for twice side by side is done twice."""
    begun: list[str] = []
    halts, halted = True, asyncio.Event()

    @tool(effect="outward", needs_approval=False, idempotent=idempotent)
    async def send(text: str) -> str:
        """Send something, and halt."""
        begun.append(text)
        if text == "slow" and halts:
            halted.set()
            await asyncio.Event().wait()
        return "sent"

    async def impatient(context: Context) -> None:
        halted.clear()
        sending = asyncio.create_task(context.call_tool("send", text="slow"))
        await halted.wait()
        sending.cancel()
        await asyncio.wait([sending])

    context, log = make(tools=[send])
    await impatient(context)
    await asyncio.gather(context.call_tool("send", text="quick"), context.call_tool("send", text="quick"))
    assert begun == ["slow", "quick", "quick"]
    told_to, _ = make(tools=[send], recorded=log.events[:1], settled={log.events[0].digest or "": "retry"})
    await impatient(told_to)
    halts = False
    for one in (context, told_to):
        if idempotent:
            assert await one.call_tool("send", text="slow") == "sent"
        else:
            with pytest.raises(InDoubt, match="send was called in 'it', and nobody knows"):
                await one.call_tool("send", text="slow")


async def test_what_was_done_outside_was_done_also_where_its_files_cannot_be_kept(make: Maker) -> None:
    @tool(effect="outward", needs_approval=False)
    async def buy(context: ToolContext) -> str:
        """Buy something, and leave two bills of which one system has room for one."""
        for name in ("bill.txt", "Bill.txt"):
            (context.folder.root / name).write_text(name)
        return "bought"

    context, _ = make(tools=[buy])
    said = await context.call_tool("buy")
    assert said.startswith("bought\n")
    assert "cannot be kept beside" in said


@pytest.mark.parametrize("looks", [False, True])
async def test_what_a_call_that_was_cut_off_left_in_the_folder_is_gone(make: Maker, *, looks: bool) -> None:
    @tool(effect="folder")
    async def halfway(context: ToolContext) -> str:
        """Write one of two files and change another."""
        (context.folder.root / "half.txt").write_text("half")
        (context.folder.root / "kept.txt").write_text("spoilt")
        await asyncio.Event().wait()
        return "whole"

    context, _ = make(tools=[halfway, write_file])
    await context.call_tool("write_file", path="kept.txt", content="kept")
    own = (await context.folder()).root if looks else None
    if own:
        (own / "own.txt").write_text("the role's own")
    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await context.call_tool("halfway")
    if own:
        assert {path.name: path.read_text() for path in own.iterdir()} == {
            "kept.txt": "kept",
            "own.txt": "the role's own",
        }
    else:
        await context.call_tool("write_file", path="more.txt", content="more")
    changes = {change.path: change.sha256 for change in await context.changes()}
    assert changes.keys() == {"kept.txt", "own.txt" if own else "more.txt"}
    assert changes["kept.txt"] == await make.store.put(b"kept")
    await context._folder.remove()
    assert not make.folder.exists()


@tool(effect="outward", idempotent=True)
async def order(item: str, context: ToolContext) -> str:  # noqa: ARG001 - the digest has it
    """Order something; the shop knows a repeated order by its key."""
    return context.idempotency_key


async def test_a_repeated_call_has_the_same_key_in_each_attempt_and_in_no_other_run(make: Maker) -> None:
    """An attempt may end while the call is under way: then the next one repeats it."""

    async def key(item: str, **of: Any) -> str:
        return await make(tools=[order], **of)[0].call_tool("order", item=item)

    assert await key("tea") == await key("tea", attempt=2)
    assert len({await key("tea"), await key("milk"), await key("tea", run="run-2")}) == 3


@tool(effect="reads")
async def shout(times: int) -> str:
    """Say a lot."""
    return "é" * times


async def test_a_long_output_is_cut_and_lies_whole_in_a_file(make: Maker) -> None:
    context, log = make(tools=[shout])
    said = await context.call_tool("shout", times=OUTPUT_CAP)
    assert len(said.encode()) <= OUTPUT_CAP
    assert "all of it is in .swarm/output-0.txt" in said
    again, _ = make(tools=[shout], recorded=log.events)
    assert await again.call_tool("shout", times=OUTPUT_CAP) == said


@tool(effect="folder")
async def plant(where: str) -> str:
    """Stand for a program in the sandbox, which may make links."""
    Path(where, ".swarm").symlink_to(Path(where).parent)
    return "x" * 2 * OUTPUT_CAP


async def test_a_long_output_never_leaves_the_folder(make: Maker) -> None:
    context, log = make(tools=[plant])
    root = (await context.folder()).root
    said = await context.call_tool("plant", where=str(root))
    assert ".swarm" not in said
    assert [path.name for path in root.parent.iterdir()] == ["folder"]
    returned = log.events[-1]
    assert isinstance(returned, ToolReturned)
    assert returned.whole is None


async def test_a_tool_that_breaks_is_an_error_with_its_reason(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    @tool(effect="reads")
    async def breaks() -> str:
        """Break."""
        raise RuntimeError("snapped")

    @tool(effect="reads")
    async def leaves() -> str:
        """Leave."""
        raise SystemExit(2)

    context, log = make(tools=[breaks, leaves])
    with pytest.raises(ToolFailed, match="breaks broke: RuntimeError: snapped"):
        await context.call_tool("breaks")
    with pytest.raises(ToolFailed, match="leaves broke: SystemExit: 2"):
        await context.call_tool("leaves")
    assert [event.error for event in log.events if isinstance(event, ToolReturned)] == [True, True]
    assert "breaks broke: RuntimeError: snapped" in caplog.messages[0]


async def test_a_tool_that_takes_what_it_cancelled_itself_breaks_and_cancels_nobody(make: Maker) -> None:
    @tool(effect="reads")
    async def races() -> str:
        """Take the result of a task that lost."""
        lost = asyncio.create_task(asyncio.sleep(9, "late"))
        lost.cancel()
        return await lost

    @tool(effect="reads")
    async def waits() -> None:
        """Wait."""
        await asyncio.sleep(9)

    context, log = make(tools=[races, waits])
    with pytest.raises(ToolFailed, match="races broke: CancelledError"):
        await context.call_tool("races")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await context.call_tool("waits")
    assert log.kinds == ["ToolReturned"]


async def test_a_check_is_recorded_with_what_it_shows(make: Maker) -> None:
    ref = FileRef(path="a.txt", sha256=await make.store.put(b"hello"), bytes=5)
    context, log = make(start={"a.txt": ref})
    assert (await context.check({"file": "a.txt"})).verdict == "holds"
    assert (await context.check({"file": "b.txt"})).verdict == "fails"
    assert all(isinstance(event, CheckEnded) for event in log.events)
    again, second = make(start={"a.txt": ref}, recorded=log.events)
    assert (await again.check({"file": "a.txt"})).verdict == "holds"
    assert (await again.check({"file": "b.txt"})).verdict == "fails"
    assert second.events == log.events
    other, _ = make(recorded=log.events)
    with pytest.raises(Diverged):
        await other.check({"file": "a.txt"})


class Leaving:
    """A sandbox whose programs leave a file, and delete another."""

    name = "leaving"

    async def probe(self) -> None:
        """Work."""

    async def run(self, argv: Sequence[str], *, folder: Path, **_: object) -> Completed:
        (folder / "coverage.xml").write_text(" ".join(argv))
        (folder / "a.txt").unlink(missing_ok=True)
        return Completed(0, Ended.EXIT, "")


async def test_what_a_check_leaves_in_the_folder_is_no_part_of_the_result(make: Maker) -> None:
    async def work(context: Context, sandbox: Sandbox | None) -> list[str]:
        context._means = replace(context._means, sandbox=sandbox)
        root = (await context.folder()).root
        await context.call_tool("write_file", path="a.txt", content="a")
        (root / "own.txt").write_text("by the role itself")
        assert (await context.check({"run": "make test"})).verdict == "holds"
        await context.call_tool("write_file", path="b.txt", content="b")
        return [change.path for change in await context.changes()]

    context, log = make(tools=[write_file])
    assert await work(context, Leaving()) == ["a.txt", "b.txt", "own.txt"]
    again, _ = make(tools=[write_file], recorded=log.events)
    assert await work(again, None) == ["a.txt", "b.txt", "own.txt"]


async def test_in_a_review_the_next_check_finds_what_the_one_before_left_also_after_a_crash(make: Maker) -> None:
    def reviewing(recorded: Sequence[Effect] = (), sandbox: Sandbox | None = None) -> tuple[Context, Log]:
        context, log = make(recorded=recorded)
        context._reviews = True
        context._means = replace(context._means, sandbox=sandbox)
        return context, log

    async def review(context: Context) -> list[str]:
        return [(await context.check(one)).verdict for one in ({"run": "make"}, {"file": "coverage.xml"})]

    context, log = reviewing(sandbox=Leaving())
    assert await review(context) == ["holds", "holds"]
    resumed, second = reviewing(log.events[:-1], Leaving())
    assert await review(resumed) == ["holds", "holds"]
    assert second.events == log.events
    replayed, _ = reviewing(log.events)
    assert await review(replayed) == ["holds", "holds"], "nothing is run"


async def test_a_criterion_that_nobody_understands_is_said(make: Maker) -> None:
    context, log = make()
    with pytest.raises(BadCriterion):
        await context.check({"smell": "good"})
    assert log.events == []


async def test_clock_and_chance_are_recorded(make: Maker) -> None:
    context, log = make()
    values = [await context.now(), await context.random(), await context.random()]
    assert [event.kind for event in log.events if isinstance(event, ValueDrawn)] == ["now", "random", "random"]
    again, _ = make(recorded=log.events)
    assert [await again.now(), await again.random(), await again.random()] == values


async def test_a_role_that_asks_otherwise_than_its_log_is_told_so(make: Maker) -> None:
    context, log = make(Answers("x"))
    await context.converse("s", "u")
    other, _ = make(Answers("y"), recorded=log.events)
    with pytest.raises(Diverged, match="began ModelAsked 0, its log has ModelAsked 0 there"):
        await other.converse("s", "something else")


async def test_results_name_files_of_the_folder_only(make: Maker) -> None:
    context, _ = make(tools=[write_file])
    await context.call_tool("write_file", path="a.txt", content="a")
    await context.call_tool("write_file", path="b.txt", content="b")
    context.result("done", files=["b.txt"])
    assert [change.path for change in await context.changes()] == ["b.txt"]
    for name in ("../b.txt", "/etc/passwd", "c.txt"):
        context.result("done", files=[name])
        with pytest.raises(ToolFailed, match="names files that are not there"):
            await context.changes()


async def test_what_a_tool_leaves_that_is_no_file_is_told_with_what_it_said(make: Maker) -> None:
    @tool(effect="folder")
    async def link(names: list[str], context: ToolContext) -> str:
        """Make links."""
        for name in names:
            (context.folder.root / name).unlink(missing_ok=True)
            (context.folder.root / name).symlink_to("elsewhere")
        return "done"

    context, log = make(tools=[link, write_file])
    await context.call_tool("write_file", path="a.txt", content="a")
    assert await context.call_tool("link", names=["a.txt"]) == "done\n['a.txt' is left out: it is a link.]"
    (gone,) = [change for event in log.events[3:] if isinstance(event, ToolReturned) for change in event.files]
    assert (gone.path, gone.sha256) == ("a.txt", None)
    assert "link" not in await context.call_tool("write_file", path="b.txt", content="b"), "it was told"
    told = await context.call_tool("link", names=[f"{number}" for number in range(12)])
    assert told.endswith("[2 more are left out.]")
    assert told.count("it is a link") == 10


async def test_after_a_program_that_wrote_too_much_others_can_go_on(make: Maker) -> None:
    class Filling(Leaving):
        async def run(self, argv: Sequence[str], *, folder: Path, **more: object) -> Completed:
            await super().run(argv, folder=folder, **more)
            return Completed(137, Ended.DISK, "")

    context, _ = make(tools=[write_file, run_command])
    context._calls.sandbox = Filling()
    await context.call_tool("write_file", path="a.txt", content="a")
    with pytest.raises(ToolFailed, match="What it wrote is taken back"):
        await context.call_tool("run_command", command="fill")
    await context.call_tool("write_file", path="b.txt", content="b")
    assert [change.path for change in await context.changes()] == ["a.txt", "b.txt"]


async def test_parallel_reads_of_one_reply_are_run_together_and_recorded_by_their_place(make: Maker) -> None:
    gate = asyncio.Event()
    at_once: list[Any] = []

    @tool(effect="reads")
    async def look(at: str) -> str:
        """Look."""
        at_once.append(at)
        if len(at_once) == 3:
            gate.set()
        await gate.wait()
        return f"seen {at}"

    calls = tuple(CallRequest(id=f"c{n}", name="look", arguments=f'{{"at": "{n}"}}') for n in range(3))
    context, log = make(Answers(ModelReply(None, USAGE, calls, "tool_calls"), "done"), tools=[look])
    await context.converse("s", "u")
    returned = {event.path: event.output for event in log.events if isinstance(event, ToolReturned)}
    assert returned == {(1,): "seen 0", (2,): "seen 1", (3,): "seen 2"}
    assert not any(isinstance(event, ToolCalled) for event in log.events)
