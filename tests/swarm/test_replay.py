"""A run gone through again does what its log says, and who changes a word of a role is told where it shows."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agents.context import Context
from bus.envelope import Envelope
from bus.errors import Refused
from bus.events import GoalFailed, ModelAsked, ResultSubmitted, WorkFailed
from bus.store import open_store
from swarm.replay import Replayed, replay
from tests.support.command import clean_env, process
from tests.support.endpoint import Body, ChatEndpoint, Reply
from tests.support.runs import layers, player, resume, scenario, start, story

PLAN = layers(2, 2)

EDITOR = '''
import asyncio

from swarm import Context, ResultSubmitted, Role, SubtaskAssigned


class Editor(Role[SubtaskAssigned, ResultSubmitted]):
    """Edits."""

    name = "editor"
    handles = SubtaskAssigned
    tools = ("write_file", "read_file")

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        begun = await ctx.now()
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ctx.converse("You write.", f"Part {n}.", tools=())) for n in range(3)]
        order = []
        more = [asyncio.ensure_future(ctx.converse("You write.", w, tools=())) for w in "ab"]
        for done in asyncio.as_completed(more):
            order.append((await done).text)
        await ctx.call_tool("write_file", path="it.txt", content=" ".join(one.result().text for one in asked))
        text = await ctx.call_tool("read_file", path="it.txt")
        luck = await ctx.random()
        return ctx.result(f"{len(text)} {begun} {luck} {order}")
'''
ONE = [{"id": "it", "role": "editor", "do": "Write it."}]
OWN = {"editor": {"uses": "./editor.py:Editor"}}


async def again(folder: Path) -> Replayed:
    """Replay the last run."""
    async with open_store(folder / "home", read_only=True) as store:
        run = (await store.log.runs())[0].run
        return await replay(run, store.log.read(run), store.files, folder / "again")


async def _log(folder: Path) -> AsyncIterator[Envelope]:
    async with open_store(folder / "home", read_only=True) as store:
        async for envelope in store.log.read((await store.log.runs())[0].run):
            yield envelope


def lines(found: Replayed) -> str:
    return "\n".join(found.difference.lines()) if found.difference else ""


async def test_a_run_replays_with_every_way_to_the_outside_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ChatEndpoint(player(PLAN)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "t1-0.txt"}]))
    assert outcome.outcome == "accepted"

    def closed(*_: object, **__: object) -> Any:
        raise AssertionError("a replay reached for the outside")

    monkeypatch.setattr(socket.socket, "connect", closed)
    monkeypatch.setattr("agents.tool.Tool.run", closed)
    monkeypatch.setattr("agents.completions.endpoint.Endpoint.ask", closed)
    monkeypatch.setattr("time.time", closed)
    found = await again(tmp_path)
    assert found.difference is None, lines(found)
    assert (found.events, found.attempts) == (outcome.events, 1 + 4 + 4 + 1)


async def test_an_attempt_whose_files_a_hub_did_not_take_replays_as_far_as_its_log_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, tried = Context.changes, 0

    async def changes(self: Context) -> Any:
        nonlocal tried
        tried += self.role == "coder"
        if tried == 1:
            raise Refused("the hub does not take the file: 401 bytes are too many: 400 may be brought")
        return await kept(self)

    monkeypatch.setattr(Context, "changes", changes)
    async with ChatEndpoint(player(PLAN)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "t1-0.txt"}]))
    assert outcome.outcome == "accepted"
    monkeypatch.undo()
    found = await again(tmp_path)
    assert found.difference is None, lines(found)
    log = [one async for one in _log(tmp_path)]
    assert [one.event.kind for one in log if isinstance(one.event, WorkFailed)] == ["files"]


async def test_a_role_of_ones_own_with_tasks_clock_and_chance_replays(tmp_path: Path) -> None:
    (tmp_path / "editor.py").write_text(EDITOR)
    async with ChatEndpoint(lambda body: f"said {body['messages'][-1]['content']}") as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, plan=ONE, roles=OWN, accept=[{"file": "it.txt"}]))
    assert outcome.outcome == "accepted", outcome.reason
    found = await again(tmp_path)
    assert found.difference is None, lines(found)


async def test_one_word_changed_in_a_role_is_caught_at_the_first_request_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "editor.py").write_text(EDITOR)
    async with ChatEndpoint(lambda _: "said") as endpoint:
        await start(tmp_path, scenario(endpoint, plan=ONE, roles=OWN, accept=[{"file": "it.txt"}]))
    (tmp_path / "editor.py").write_text(EDITOR.replace("Part {n}.", "Piece {n}."))
    found = await again(tmp_path)
    first = next(e for e in (await story(tmp_path, replays=False)).log if isinstance(e.event, ModelAsked))
    assert found.difference is not None
    assert found.difference.position == first.sequence
    assert "-Part 0." in lines(found)
    assert "+Piece 0." in lines(found)


async def test_a_line_more_above_what_a_role_raises_is_no_difference(tmp_path: Path) -> None:
    raising = EDITOR.replace(
        "        return ", "        if request.attempt == 1:\n            raise KeyError('x')\n        return "
    )
    (tmp_path / "editor.py").write_text(raising)
    async with ChatEndpoint(lambda _: "said") as endpoint:
        await start(tmp_path, scenario(endpoint, plan=ONE, roles=OWN, accept=[{"file": "it.txt"}]))
    failed = (await story(tmp_path)).of(WorkFailed)
    assert [one.reason.partition(" (editor.py:")[0] for one in failed] == ["KeyError: 'x'"]
    (tmp_path / "editor.py").write_text(f"# more\n{raising}")
    found = await again(tmp_path)
    assert found.difference is None, lines(found)


async def test_a_role_that_raises_with_a_path_of_its_folder_replays_in_another(tmp_path: Path) -> None:
    raising = EDITOR.replace(
        "        return ",
        """        if request.attempt == 1:
            ((await ctx.folder()).root / "sub" / "none.txt").read_text()
        return """,
    )
    (tmp_path / "editor.py").write_text(raising)
    async with ChatEndpoint(lambda _: "said") as endpoint:
        await start(tmp_path, scenario(endpoint, plan=ONE, roles=OWN, accept=[{"file": "it.txt"}]))
    failed = (await story(tmp_path)).of(WorkFailed)
    assert ["directory: 'sub/none.txt' (editor.py:" in one.reason for one in failed] == [True]
    found = await again(tmp_path)
    assert found.difference is None, lines(found)


CARELESS = '''
import asyncio

from swarm import Context, ResultSubmitted, Role, SubtaskAssigned


class Careless(Role[SubtaskAssigned, ResultSubmitted]):
    """Minds no failure."""

    name = "careless"
    handles = SubtaskAssigned
    tools = ("write_file", "read_file")

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        await ctx.call_tool("write_file", path="it.txt", content="it")
        await asyncio.gather(ctx.random(), ctx.call_tool("read_file", path="it.txt"), return_exceptions=True)
        try:
            await ctx.call_tool("read_file", path="none.txt")
        except Exception:
            pass
        return ctx.result("done")
'''


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("none.txt", "it.txt", "-path: none.txt\n+path: it.txt"),
        (', ctx.call_tool("read_file", path="it.txt")', "", "has not begun ToolReturned 2.0, which its log has"),
        (
            'await ctx.call_tool("read_file", path="none.txt")',
            "pass",
            "ended without ToolReturned 3, which its log has",
        ),
    ],
)
async def test_a_role_that_minds_no_failure_is_caught_where_it_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: str, now: str, says: str
) -> None:
    monkeypatch.setattr("agents.lookout.LOOK_S", 0.01)
    (tmp_path / "careless.py").write_text(CARELESS)
    plan, roles = [{"id": "it", "role": "careless", "do": "Do it."}], {"careless": {"uses": "./careless.py:Careless"}}
    async with ChatEndpoint(lambda _: "said") as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, plan=plan, roles=roles, accept=[{"file": "it.txt"}]))
    assert outcome.outcome == "accepted", outcome.reason
    found = await again(tmp_path)
    assert found.difference is None, lines(found)
    (tmp_path / "careless.py").write_text(CARELESS.replace(was, now))
    assert says in lines(await again(tmp_path))


async def test_a_role_that_ends_otherwise_or_does_more_is_caught(tmp_path: Path) -> None:
    (tmp_path / "editor.py").write_text(EDITOR)
    async with ChatEndpoint(lambda _: "said") as endpoint:
        await start(tmp_path, scenario(endpoint, plan=ONE, roles=OWN, accept=[{"file": "it.txt"}]))
    result = next(e for e in (await story(tmp_path)).log if isinstance(e.event, ResultSubmitted))
    (tmp_path / "editor.py").write_text(EDITOR.replace("{len(text)}", "about {len(text)}"))
    found = await again(tmp_path)
    assert found.difference is not None
    assert (found.difference.position, found.difference.what) == (result.sequence, "the role ends otherwise")
    (tmp_path / "editor.py").write_text(EDITOR.replace("return ctx", "await ctx.now()\n        return ctx"))
    found = await again(tmp_path)
    assert found.difference is not None
    assert found.difference.what == "the role goes on beyond its log"
    assert "ValueDrawn" in found.difference.now
    bounded = "async with asyncio.timeout(600):\n            await ctx.now()\n        return ctx"
    (tmp_path / "editor.py").write_text(EDITOR.replace("return ctx", bounded))
    found = await again(tmp_path)
    assert found.difference is not None
    assert found.difference.what == "the role ends otherwise, after ValueDrawn 9, of which its log has no outcome"


async def test_a_role_whose_own_timeout_cut_off_its_last_call_replays(tmp_path: Path) -> None:
    impatient = EDITOR.replace(
        "        luck",
        """        try:
            async with asyncio.timeout(0.3):
                await ctx.call_tool("nap")
        except TimeoutError:
            return ctx.result("it took too long")
        luck""",
    )
    nap = '\n\n@tool(effect="reads")\nasync def nap() -> None:\n    """Sleep."""\n    await asyncio.sleep(60)\n'
    (tmp_path / "editor.py").write_text(impatient.replace("SubtaskAssigned\n", "SubtaskAssigned, tool\n", 1) + nap)
    roles = {"editor": {**OWN["editor"], "tools": ["write_file", "read_file", "./editor.py:nap"]}}
    async with ChatEndpoint(lambda _: "said") as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, plan=ONE, roles=roles, accept=[{"file": "it.txt"}]))
    assert outcome.outcome == "accepted", outcome.reason
    assert (await story(tmp_path)).of(ResultSubmitted)[0].text == "it took too long"
    found = await again(tmp_path)
    assert found.difference is None, lines(found)


async def test_a_run_with_rejections_a_limit_and_a_resume_replays(tmp_path: Path) -> None:
    def play(role: str, subtask: str, body: Body) -> Reply | None:
        told = str(body["messages"][1]["content"])
        return "Nothing." if role == "coder" and subtask == "t0-0" and "not accepted" not in told else None

    plan = [one | {"accept": [{"file": f"{one['id']}.txt"}]} for one in PLAN]
    async with ChatEndpoint(player(PLAN, play)) as endpoint:
        written = scenario(endpoint, plan=plan, accept=[{"file": "t1-0.txt"}], limits={"tokens": 5_000})
        outcome = await start(tmp_path, written, max_tokens=400)
        assert outcome.outcome == "failed"
        outcome = await resume(tmp_path, tokens=200_000)
    assert outcome.outcome == "accepted", outcome.reason
    assert (await story(tmp_path)).of(GoalFailed)
    found = await again(tmp_path)
    assert found.difference is None, lines(found)


async def test_rules_that_decide_otherwise_are_caught_where_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ChatEndpoint(player(PLAN)) as endpoint:
        await start(tmp_path, scenario(endpoint, accept=[{"file": "t1-0.txt"}]))
    monkeypatch.setattr("swarm.core.decide._patience", lambda *_: 1234)
    found = await again(tmp_path)
    log = (await story(tmp_path, replays=False)).log
    first = next(e.sequence for e in log if getattr(e.event, "deadline_ms", None))
    assert found.difference is not None
    assert (found.difference.position, found.difference.what) == (first, "the rules decide otherwise")


async def test_a_run_that_crashed_in_the_middle_replays_as_far_as_it_came(tmp_path: Path) -> None:
    class Crashed(BaseException):
        pass

    def on_event(envelope: Envelope) -> None:
        if envelope.sequence == 30:
            raise Crashed

    async with ChatEndpoint(player(PLAN)) as endpoint:
        with pytest.raises(BaseExceptionGroup):
            await start(tmp_path, scenario(endpoint, accept=[{"file": "t1-0.txt"}]), on_event=on_event)
        found = await again(tmp_path)
        assert found.difference is None, lines(found)
        assert (await resume(tmp_path)).outcome == "accepted"
    found = await again(tmp_path)
    assert found.difference is None, lines(found)


async def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "editor.py").write_text(EDITOR)
    async with ChatEndpoint(lambda _: "said") as endpoint:
        await start(tmp_path, scenario(endpoint, plan=ONE, roles=OWN, accept=[{"file": "it.txt"}]))
    env = clean_env(tmp_path, SWARM_HOME=str(tmp_path / "home"))
    done = process("replay", "last", cwd=tmp_path, env=env)
    assert (done.status, "all as the log has them" in done.out) == (0, True), done.err
    (tmp_path / "editor.py").write_text(EDITOR.replace("Part {n}.", "Piece {n}."))
    done = process("replay", "last", "--json", cwd=tmp_path, env=env)
    assert (done.status, done.json["ok"]) == (1, False)
    assert "Piece 0." in done.json["difference"]["what"]
