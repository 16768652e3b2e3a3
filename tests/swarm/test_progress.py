"""The live view: a fold over envelopes, drawn without holding anything up."""

import asyncio
import contextlib
import io
import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import swarm
from bus.envelope import Envelope
from bus.events import SubtaskAssigned
from bus.setup import Subtask
from swarm import launch
from swarm.views.glance import Doing, Glance, Row
from swarm.views.progress import LiveView, PlainView, Quiet, drawn, footer, view_for
from swarm.views.wording import dollars
from tests.support.command import ANSWERS, SCENARIO
from tests.support.endpoint import ChatEndpoint
from tests.support.events import envelopes
from tests.support.runs import player, prepare, scenario
from tests.support.runs import settings as settings_in


@pytest.fixture
async def recorded(tmp_path: Path) -> list[Envelope]:
    """A whole small run."""
    (tmp_path / "hello.yaml").write_text(SCENARIO)
    (tmp_path / "answers.yaml").write_text(ANSWERS)
    seen: list[Envelope] = []
    outcome = await swarm.run(tmp_path / "hello.yaml", home=tmp_path / "h", out=tmp_path / "o", on_event=seen.append)
    assert outcome.outcome == "accepted"
    return seen


def shown(glance: Glance, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True, force_terminal=False).print(drawn(glance, 65_000))
    return out.getvalue()


async def test_a_run_is_folded_as_it_goes(recorded: list[Envelope]) -> None:
    glance = Glance()
    statuses = []
    for envelope in recorded:
        glance.fold(envelope)
        if "hello" in glance.rows and (not statuses or statuses[-1] != glance.rows["hello"].status):
            statuses.append(glance.rows["hello"].status)
        if envelope.type == "swarm.ToolReturned.v1":
            assert "write_file(path=hello.txt" in shown(glance)
    assert statuses == ["waiting", "working", "in review", "accepted"]
    assert not glance.at_work
    assert not glance.running
    assert "of 200,000 tokens · $0.00 · 1:05 of 30:00" in shown(glance)


async def test_what_is_shown_as_spent_is_what_is_counted_also_of_lost_calls_and_after_a_resume(tmp_path: Path) -> None:
    async def watched(act: Callable[..., Awaitable[swarm.Outcome]]) -> tuple[str, swarm.Outcome]:
        glance = Glance()
        outcome = await act(on_state=lambda state: setattr(glance, "state", state), on_event=glance.fold)
        tokens = outcome.tokens.input + outcome.tokens.output + outcome.tokens.unproven
        said = f"{tokens:,} of {int(outcome.limits['tokens'].limit):,} tokens · {dollars(outcome.cost_usd or 0)} of"
        assert footer(glance, 0).startswith(said)
        return said, outcome

    down = ["reset_midway", "401"]
    async with ChatEndpoint(player(), faults=down) as endpoint:
        plan = [{"id": "a", "role": "coder", "do": "TASK a: write a.txt"}]
        limits = {"money": "5 USD", "tokens": "150k"}
        price = {"input": 1.0, "output": 2.0}
        ready = await prepare(tmp_path, scenario(endpoint, price=price, plan=plan, limits=limits))
        at = settings_in(tmp_path)
        before, paused = await watched(partial(launch.start, ready, at, out=tmp_path / "out"))
        assert (paused.outcome, bool(paused.tokens.unproven), bool(paused.cost_usd)) == ("paused", True, True)
        after, resumed = await watched(partial(launch.resume, "last", at))
    assert resumed.tokens.unproven >= paused.tokens.unproven
    assert after != before


@given(st.lists(envelopes(), max_size=4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_order_of_events_breaks_the_view(events: list[Envelope]) -> None:
    glance = Glance()
    for envelope in events:
        glance.fold(envelope)
    assert "\x1b" not in shown(glance)


def test_names_that_a_model_chose_are_shown_with_nothing_that_a_terminal_obeys() -> None:
    evil = "a\x1b]0;mine\x07b"
    glance = Glance(run=evil, rows={"a": Row(Subtask(id=evil, role=evil, instruction="x"), "working", 1)})
    glance.at_work["lease"] = Doing(evil, evil, None)
    assert not set("\x1b\x07") & set(shown(glance))


def test_a_plan_is_drawn_as_a_tree() -> None:
    def row(name: str, *needs: str) -> Row:
        return Row(Subtask(id=name, role="coder", instruction="x", needs=needs))

    glance = Glance(run="r", rows={"a": row("a"), "b": row("b", "a"), "c": row("c"), "d": row("d", "b", "c")})
    lines = [line.rstrip() for line in shown(glance).splitlines()]
    assert lines[1:5] == [
        "· a  coder  waiting",
        "  · b  coder  waiting",
        "· c  coder  waiting",
        "  · d  coder  waiting",
    ]


def test_markup_is_not_read() -> None:
    glance = Glance(run="r", last="[red]x[/red] :smile:")
    assert "[red]x[/red] :smile:" in shown(glance)


def test_a_price_that_is_not_known_is_said() -> None:
    glance = Glance()
    glance.state.ledger.spent.price_known = False
    assert "price not known" in footer(glance, 0)


async def test_plain_lines_come_in_order_and_all_of_them(recorded: list[Envelope]) -> None:
    out = io.StringIO()
    async with PlainView(out) as view:
        view.announce("fetching")
        for envelope in recorded:
            view.on_event(envelope)
    lines = out.getvalue().splitlines()
    assert lines[0] == "fetching"
    assert "begins hello" in lines[1]
    assert "goal reached" in lines[-1]
    assert not any("asks scripted" in line for line in lines), "what only begins is left out"


async def test_a_reader_that_is_stuck_does_not_hold_the_run_up(recorded: list[Envelope]) -> None:
    entered, release = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            entered.set()
            release.wait(10)
            return super().write(text)

    out = Stuck()
    async with PlainView(out) as view:
        view.on_event(recorded[0])
        await asyncio.to_thread(entered.wait, 10)
        for envelope in recorded[1:]:
            view.on_event(envelope)  # returns at once, though nothing is read
        assert out.getvalue() == ""
        release.set()
    assert "goal reached" in out.getvalue()


async def test_a_reader_that_is_gone_ends_the_view_not_the_run(recorded: list[Envelope]) -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("swarm.views.progress.REDRAW_S", 0)
        stream = os.fdopen(write, "w", buffering=1)
        try:
            async with PlainView(stream) as view:
                for envelope in recorded:
                    view.on_event(envelope)
                    await asyncio.sleep(0)
        finally:
            with contextlib.suppress(BrokenPipeError):  # what it still held goes nowhere, as it should
                stream.close()


async def test_drawing_is_bounded_however_many_events_come() -> None:
    out = io.StringIO()
    now = 0.0
    subtask = Subtask(id="a", role="coder", instruction="x")
    event = SubtaskAssigned(subtask=subtask, attempt=1, agent="local/coder", deadline_ms=1)
    async with LiveView(out, lambda: now) as view:
        for number in range(2_000):
            view.on_event(Envelope(f"e{number}", "/swarm/hub/local", event, "run", "t", "a", None, number + 1, number))
    assert out.getvalue().count("of 200,000 tokens") <= 3


def test_what_shows_a_run_fits_the_stream() -> None:
    out = io.StringIO()
    assert type(view_for(out, quiet=False, terminal_only=False)) is PlainView
    assert type(view_for(out, quiet=True, terminal_only=False)) is Quiet
    assert type(view_for(out, quiet=False, terminal_only=True)) is Quiet
