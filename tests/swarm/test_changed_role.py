"""A role that was changed since its run began: it goes on where it does the same, else the run waits and says what."""

from pathlib import Path

import pytest

from bus.envelope import Envelope
from bus.events import AssignmentEnded, ModelAnswered, RunPaused
from tests.support.command import clean_env, process, serving
from tests.support.endpoint import ChatEndpoint
from tests.support.runs import resume, scenario, start, story

EDITOR = '''
from swarm import Context, ResultSubmitted, Role, SubtaskAssigned


class Editor(Role[SubtaskAssigned, ResultSubmitted]):
    """Edits."""

    name = "editor"
    handles = SubtaskAssigned
    tools = ("write_file",)

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        draft = await ctx.converse("You write.", "Write a letter.", tools=())
        await ctx.call_tool("write_file", path="letter.txt", content=draft.text)
        return ctx.result("Written.")
'''
PLAN = [{"id": "letter", "role": "editor", "do": "Write it."}]


class Crashed(BaseException):
    """The process is gone."""


async def crash(folder: Path, endpoint: ChatEndpoint) -> None:
    """Begin a run that crashes once the role's one answer is durable."""
    (folder / "editor.py").write_text(EDITOR)

    def on_event(envelope: Envelope) -> None:
        if isinstance(envelope.event, ModelAnswered):
            raise Crashed

    written = scenario(
        endpoint, plan=PLAN, roles={"editor": {"uses": "./editor.py:Editor"}}, accept=[{"file": "letter.txt"}]
    )
    with pytest.raises(BaseExceptionGroup):
        await start(folder, written, on_event=on_event)


async def test_a_run_goes_on_with_a_role_that_was_changed_after_what_it_had_done(tmp_path: Path) -> None:
    async with ChatEndpoint(lambda _: "Dear all.", keep=5) as endpoint:
        await crash(tmp_path, endpoint)
        (tmp_path / "editor.py").write_text(EDITOR.replace('"Written."', '"Written, and well."'))
        outcome = await resume(tmp_path)
        assert outcome.outcome == "accepted", outcome.reason
        assert len(endpoint.requests) == 1, "the recorded answer was used"


async def test_a_run_waits_where_a_changed_role_asks_for_something_else(tmp_path: Path) -> None:
    async with ChatEndpoint(lambda _: "Dear all.", keep=5) as endpoint:
        await crash(tmp_path, endpoint)
        (tmp_path / "editor.py").write_text(EDITOR.replace("Write a letter.", "Write a poem."))
        outcome = await resume(tmp_path)
        assert (outcome.outcome, outcome.exit_status) == ("paused", 3)
        assert "-Write a letter." in outcome.reason
        assert "+Write a poem." in outcome.reason
        assert "swarm fork RUN --at N" in outcome.reason
        told = await story(tmp_path, replays=False)
        assert told.of(AssignmentEnded)
        assert told.of(RunPaused)
        (tmp_path / "editor.py").write_text(EDITOR)
        assert (await resume(tmp_path)).outcome == "accepted", "put back as it was, it goes on"
        assert len(endpoint.requests) == 1


def test_resume_warns_of_code_that_has_changed(tmp_path: Path) -> None:
    import asyncio  # noqa: PLC0415 - one test needs it

    with serving(responder=lambda _: "Dear all.") as endpoint:
        asyncio.run(crash(tmp_path, endpoint))
        (tmp_path / "editor.py").write_text(EDITOR + "\n# changed\n")
        env = clean_env(tmp_path, SWARM_HOME=str(tmp_path / "home"))
        done = process("resume", "last", "--quiet", cwd=tmp_path, env=env)
    assert done.status == 0, done.err
    assert "editor.py is not what it was when the run began" in done.err
