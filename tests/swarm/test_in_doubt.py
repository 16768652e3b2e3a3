"""An outward call that was begun, and whose outcome the log does not have, is never repeated unasked."""

import asyncio
from pathlib import Path

import pytest

from bus.envelope import Envelope
from bus.events import DoubtSettled, RunPaused, ToolCalled, ToolReturned
from swarm import launch
from swarm.core.state import Verdict
from swarm.runs.outcome import Outcome
from tests.support.command import clean_env, process, serving
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.runs import player, results, scenario, settings, start, story
from tests.swarm.test_cli import CTRL_C, CTRL_D, on_a_terminal

TOOLS = '''
from pathlib import Path

from swarm import tool


@tool(effect="outward", needs_approval=False)
async def send_mail(text: str) -> str:
    """Send a mail."""
    with Path({sent!r}).open("a") as sent:
        sent.write(text + "\\n")
    return "sent"
'''
PLAN = [{"id": "letter", "role": "coder", "do": "TASK letter: write letter.txt", "accept": [{"file": "letter.txt"}]}]


class Crashed(BaseException):
    """The process is gone."""


def respond(body: Body) -> Reply:
    given = results(body)
    if not given:
        return Answer(calls=[("send_mail", {"text": "hello"})])
    return player()(body)


async def crash(folder: Path, endpoint: ChatEndpoint, *, done: bool = True) -> None:
    """Begin a run that crashes once the call's intent is durable; before or after the mail is sent."""
    sent = folder / "sent.txt"
    (folder / "tools.py").write_text(TOOLS.replace("{sent!r}", repr(str(sent))))

    def on_event(envelope: Envelope) -> None:
        if isinstance(envelope.event, ToolCalled):
            if done:
                sent.write_text("hello\n")
            raise Crashed

    roles = {"coder": {"tools": ["./tools.py:send_mail", "write_file"]}}
    written = scenario(endpoint, plan=PLAN, roles=roles, accept=[{"file": "letter.txt"}])
    with pytest.raises(BaseExceptionGroup):
        await start(folder, written, on_event=on_event)


async def resume(folder: Path, verdict: Verdict | None = None) -> Outcome:
    return await launch.resume("last", settings(folder), in_doubt=lambda _: verdict)


async def test_a_run_with_a_call_in_doubt_pauses_until_a_person_decides(tmp_path: Path) -> None:
    async with ChatEndpoint(respond, keep=20) as endpoint:
        await crash(tmp_path, endpoint)
        for _ in range(2):
            outcome = await resume(tmp_path)
            assert (outcome.outcome, outcome.exit_status) == ("paused", 3)
            assert "send_mail(text='hello') in 'letter'" in outcome.reason
            assert [one.status for one in outcome.subtasks] == ["in_doubt"]
    told = await story(tmp_path)
    assert {event.kind for event in told.of(RunPaused)} == {"doubt"}
    assert (tmp_path / "sent.txt").read_text() == "hello\n"


@pytest.mark.parametrize(("verdict", "times"), [("skip", 1), ("retry", 2)])
async def test_a_persons_word_on_a_call_in_doubt_is_kept(tmp_path: Path, verdict: Verdict, times: int) -> None:
    async with ChatEndpoint(respond, keep=20) as endpoint:
        await crash(tmp_path, endpoint)
        outcome = await resume(tmp_path, verdict)
        assert outcome.outcome == "accepted", outcome.reason
        assert len(endpoint.requests) == 3, "the recorded answer was not asked for again"
    told = await story(tmp_path)
    assert [(event.tool, event.verdict) for event in told.of(DoubtSettled)] == [("send_mail", verdict)]
    returned = next(event for event in told.of(ToolReturned) if event.tool == "send_mail")
    assert not returned.error, "it goes on as if it were done"
    assert (tmp_path / "sent.txt").read_text() == "hello\n" * times
    assert len([event for event in told.of(ToolCalled) if event.tool == "send_mail"]) == 1


BROKEN = '''
from pathlib import Path

from swarm import Context, ResultSubmitted, Role, SubtaskAssigned, tool


@tool(effect="outward", needs_approval=False)
async def post(text: str) -> str:
    """Post a text, and hear nothing more."""
    with Path({sent!r}).open("a") as sent:
        sent.write(text + "\\n")
    raise ConnectionResetError("reset after the order was sent")


class Poster(Role[SubtaskAssigned, ResultSubmitted]):
    """Posts, and goes on."""

    name = "poster"
    handles = SubtaskAssigned
    tools = ("write_file",)

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        try:
            await ctx.call_tool("post", text="hello")
        except Exception:
            await ctx.call_tool("post", text="hello")
        await ctx.call_tool("write_file", path="letter.txt", content="posted")
        return ctx.result("Posted.")
'''
POSTS = [{"id": "letter", "role": "poster", "do": "Post it.", "accept": [{"file": "letter.txt"}]}]


@pytest.mark.parametrize("verdict", ["skip", "fail"])
async def test_an_outward_tool_that_broke_is_in_doubt_and_its_role_goes_on_by_a_persons_word(
    tmp_path: Path, verdict: Verdict
) -> None:
    """After `fail` the planner plans the subtask anew, and it does not stand before the same wall."""
    sent = tmp_path / "sent.txt"
    (tmp_path / "poster.py").write_text(BROKEN.replace("{sent!r}", repr(str(sent))))
    plan = player([{"id": "letter", "role": "poster", "do": "Post it another way."}])
    async with ChatEndpoint(plan, keep=20) as endpoint:
        roles = {"poster": {"uses": "./poster.py:Poster", "tools": ["./poster.py:post", "write_file"]}}
        outcome = await start(tmp_path, scenario(endpoint, plan=POSTS, roles=roles, accept=[{"file": "letter.txt"}]))
        assert (outcome.outcome, outcome.exit_status) == ("paused", 3)
        assert "post broke: ConnectionResetError: reset after the order was sent" in outcome.reason
        assert [one.status for one in outcome.subtasks] == ["in_doubt"]
        outcome = await resume(tmp_path, verdict)
    assert outcome.outcome == "accepted", outcome.reason
    assert sent.read_text() == "hello\n"


async def test_a_call_in_doubt_that_is_given_up_ends_its_subtask(tmp_path: Path) -> None:
    async with ChatEndpoint(respond, keep=20) as endpoint:
        await crash(tmp_path, endpoint)
        outcome = await resume(tmp_path, "fail")
    assert outcome.outcome != "accepted"
    assert (tmp_path / "sent.txt").read_text() == "hello\n"


async def test_a_skipped_call_is_not_done_by_a_later_attempt_either(tmp_path: Path) -> None:
    """The first attempt ends without a letter; the second begins with the same mail."""

    def careless(body: Body) -> Reply:
        if not results(body):
            return Answer(calls=[("send_mail", {"text": "hello"})])
        if "An earlier attempt was not accepted" not in str(body["messages"][1]["content"]):
            return "Done."
        return player()(body)

    async with ChatEndpoint(careless, keep=20) as endpoint:
        await crash(tmp_path, endpoint)
        outcome = await resume(tmp_path, "skip")
    assert outcome.outcome == "accepted", outcome.reason
    assert outcome.subtasks[0].attempts == 2
    assert (tmp_path / "sent.txt").read_text() == "hello\n"


async def test_a_call_cut_off_by_a_deadline_is_in_doubt_before_the_next_attempt(tmp_path: Path) -> None:
    slow = TOOLS.replace('return "sent"', "import asyncio; await asyncio.Event().wait()")
    (tmp_path / "tools.py").write_text(slow.replace("{sent!r}", repr(str(tmp_path / "sent.txt"))))
    roles = {"coder": {"tools": ["./tools.py:send_mail", "write_file"]}}
    async with ChatEndpoint(respond, keep=20) as endpoint:
        written = scenario(endpoint, plan=PLAN, roles=roles, accept=[{"file": "letter.txt"}])
        outcome = await start(tmp_path, written, deadline_ms=2_000)
        assert outcome.outcome == "paused"
        assert "send_mail" in outcome.reason
        outcome = await resume(tmp_path, "skip")
    assert outcome.outcome == "accepted", outcome.reason
    assert (tmp_path / "sent.txt").read_text() == "hello\n"


def test_the_command_line_says_what_is_in_doubt_and_takes_the_word(tmp_path: Path) -> None:
    with serving(responder=respond) as endpoint:
        asyncio.run(crash(tmp_path, endpoint))
        env = clean_env(tmp_path, SWARM_HOME=str(tmp_path / "home"))
        done = process("resume", "last", "--quiet", cwd=tmp_path, env=env)
        assert done.status == 3
        assert "--in-doubt retry|skip|fail" in done.out
        done = process("resume", "last", "--quiet", "--in-doubt", "skip", cwd=tmp_path, env=env)
        assert done.status == 0, done.err


def test_a_person_on_a_terminal_is_asked_what_is_in_doubt(tmp_path: Path) -> None:
    home, question = str(tmp_path / "home"), "[f]ail?"
    with serving(responder=respond) as endpoint:
        asyncio.run(crash(tmp_path, endpoint))
        before = (tmp_path / "home" / "log.db").read_bytes()
        status, shown = on_a_terminal("resume", "last", cwd=tmp_path, typed=CTRL_C, after=question, SWARM_HOME=home)
        assert status == 130, shown
        assert (tmp_path / "home" / "log.db").read_bytes() == before, "nothing was recorded"
        status, shown = on_a_terminal("resume", "last", cwd=tmp_path, typed=CTRL_D, after=question, SWARM_HOME=home)
        assert (status, "--in-doubt retry|skip|fail" in shown) == (3, True), shown
        status, shown = on_a_terminal("resume", "last", cwd=tmp_path, typed=b"s\n", after=question, SWARM_HOME=home)
        assert status == 0, shown
