"""The live view of a run: what `glance.py` makes of its envelopes, drawn at most four times a second.

Folding happens where the envelopes come from and only touches memory; drawing happens in a thread, so that a terminal
that is held or a pipe that nobody reads never holds the run up.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self, TextIO

from bus.envelope import Envelope
from swarm.core.state import RunState
from swarm.runs.outcome import PICO
from swarm.views.glance import Glance, Row
from swarm.views.terminal import has_colour, one_line
from swarm.views.timeline import Timeline
from swarm.views.wording import LONG, MINOR, clock, dollars

if TYPE_CHECKING:
    from rich.console import RenderableType

REDRAW_S = 0.25
_MOST_ROWS = 200
"""Subtasks drawn; a terminal shows fewer."""

_MARKS = {
    "waiting": ("·", "dim"),
    "working": ("●", "cyan"),
    "in review": ("◐", "blue"),
    "sent back": ("↺", "yellow"),
    "accepted": ("✔", "green"),
    "failed": ("✘", "red"),
}


def drawn(glance: Glance, elapsed_ms: int) -> "RenderableType":
    """Return the view as something that rich draws; nothing in it is read as markup."""
    from rich.console import Group  # noqa: PLC0415 - only a terminal needs rich
    from rich.text import Text  # noqa: PLC0415 - likewise

    lines = [Text(one_line(glance.run, LONG), style="bold", no_wrap=True, overflow="ellipsis")]
    by_subtask = {doing.subtask: doing for doing in glance.at_work.values() if doing.subtask}
    for row, depth in _tree(glance.rows):
        mark, style = _MARKS[row.status]
        line = Text(f"{'  ' * depth}{mark} ", style=style, no_wrap=True, overflow="ellipsis")
        line.append(one_line(row.subtask.id, LONG), style="bold")
        line.append(f"  {one_line(row.subtask.role, LONG)}  {row.status}", style=style)
        if row.attempt > 1:
            line.append(f"  attempt {row.attempt} of {glance.state.limits.attempts}", style="yellow")
        if row.subtask.id in by_subtask:
            line.append(f"  {by_subtask[row.subtask.id].did}", style="dim")
        lines.append(line)
    for one in list(glance.at_work.values()):
        if one.subtask is None:
            text = f"● {one_line(f'{one.role}  {one.request}', LONG)}  {one.did}"
            lines.append(Text(text, style="cyan", no_wrap=True, overflow="ellipsis"))
    if glance.last:
        lines.append(Text(glance.last, style="dim", no_wrap=True, overflow="ellipsis"))
    lines.append(Text(footer(glance, elapsed_ms), style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def footer(glance: Glance, elapsed_ms: int) -> str:
    """Return tokens, money and time against their limits."""
    limits, spent = glance.state.limits, glance.state.ledger.spent
    money = dollars(spent.money / PICO) if spent.price_known else "price not known"
    most = f" of {dollars(limits.money / PICO)}" if limits.money is not None else ""
    return (
        f"{spent.tokens:,} of {limits.tokens:,} tokens · {money}{most} · "
        f"{clock(elapsed_ms)[:-2]} of {clock(limits.time_ms)[:-2]}"
    )


def _tree(rows: dict[str, Row]) -> Iterator[tuple[Row, int]]:
    """Yield the subtasks, each below the last of those it needs, with its depth."""
    depths: dict[str, int] = {}
    children: dict[str | None, list[str]] = {}
    for name, row in rows.items():
        parent = next((need for need in reversed(row.subtask.needs) if need in rows), None)
        children.setdefault(parent, []).append(name)
    waiting = [*reversed(children.get(None, []))]
    while waiting and len(depths) < _MOST_ROWS:
        name = waiting.pop()
        parent = next((need for need in reversed(rows[name].subtask.needs) if need in rows), None)
        depths[name] = depths[parent] + 1 if parent in depths else 0
        yield rows[name], depths[name]
        waiting += reversed(children.get(name, []))


class Quiet:
    """Shows nothing."""

    def on_state(self, state: RunState) -> None:
        """Take the run's state, which goes on by itself, before the first event."""

    def on_event(self, envelope: Envelope) -> None:
        """Take an event."""

    def announce(self, text: str) -> None:
        """Take a line about something that takes long."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Leave nothing behind."""


class _Drawing(Quiet):
    """Base of views: draws in a thread, four times a second at most, and once more at the end."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self.monotonic = monotonic
        self._task: asyncio.Task[None] | None = None
        self._broken = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._go_on(), name="progress")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._draw_once()

    async def _go_on(self) -> None:
        while True:
            await self._draw_once()
            await asyncio.sleep(REDRAW_S)

    async def _draw_once(self) -> None:
        draw = None if self._broken else self.frame()
        if draw is None:
            return
        try:
            await asyncio.shield(asyncio.to_thread(draw))
        except OSError:
            self._broken = True  # nobody reads on; the run goes on without a view

    def frame(self) -> Callable[[], None] | None:
        """Return what draws the present state, from any thread; None where nothing has changed."""
        raise NotImplementedError


class PlainView(_Drawing):
    """A line an event that matters: for pipes, files and terminals that cannot do more."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._timeline = Timeline()
        self._lines: deque[str] = deque()

    def on_event(self, envelope: Envelope) -> None:
        """Keep the line for the next drawing."""
        told = self._timeline.tell(envelope)
        if not isinstance(envelope.event, MINOR):
            self._lines.append(told.line(colour=has_colour(self.stream)))

    def announce(self, text: str) -> None:
        """Keep the line for the next drawing."""
        self._lines.append(one_line(text, 2 * LONG))

    def frame(self) -> Callable[[], None] | None:
        """Return what writes the lines that came."""
        if not self._lines:
            return None
        text = "".join(f"{line}\n" for line in self._lines)
        self._lines.clear()

        def write() -> None:
            encoding = self.stream.encoding or "utf-8"
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.stream.flush()

        return write


class LiveView(_Drawing):
    """The plan as a tree, redrawn in place."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs rich
        from rich.live import Live  # noqa: PLC0415 - likewise

        super().__init__(stream, monotonic)
        console = Console(file=stream, markup=False, highlight=False, emoji=False, no_color=not has_colour(stream))
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self.glance = Glance()
        self._since = monotonic()

    async def __aenter__(self) -> Self:
        self._live.start()
        return await super().__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        self._live.stop()

    def on_state(self, state: RunState) -> None:
        """Show what is spent by it."""
        self.glance.state = state

    def on_event(self, envelope: Envelope) -> None:
        """Fold the event in."""
        self.glance.fold(envelope)
        self._since = self.monotonic()

    def announce(self, text: str) -> None:
        """Show the line below the plan."""
        self.glance.last = one_line(text, LONG)

    def frame(self) -> Callable[[], None] | None:
        """Return what draws the plan as it stands; the time goes on by itself."""
        meanwhile = int((self.monotonic() - self._since) * 1000) if self.glance.running else 0
        view = drawn(self.glance, self.glance.elapsed_ms + meanwhile)
        return lambda: self._live.update(view, refresh=True)


View = Quiet
"""What shows a run: `on_state`, `on_event`, `announce`, and `async with` around them."""


def view_for(stream: TextIO, *, quiet: bool, terminal_only: bool) -> View:
    """Return the view that a stream can show."""
    if quiet or (terminal_only and not stream.isatty()):
        return Quiet()
    return LiveView(stream) if has_cursor(stream) else PlainView(stream)


def has_cursor(stream: TextIO) -> bool:
    """Tell whether what is drawn can be drawn over."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
