"""Makes docs/run.svg from the log of a real run: `python -m tests.support.picture RUN` where its `.swarm` lies."""

import asyncio
import io
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

import swarm
from bus.envelope import Envelope
from swarm.views.timeline import Timeline
from swarm.views.wording import MINOR

PICTURE = Path(__file__).parents[2] / "docs" / "run.svg"
WIDTH = 118
# Rich's own, without the fonts that it would load from elsewhere.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


async def envelopes(run: str) -> list[Envelope]:
    """Return the run's log, from `.swarm` or `$SWARM_HOME`."""
    async with swarm.open_log() as log:
        return [envelope async for envelope in log.read(run)]


def picture(log: list[Envelope]) -> str:
    """Return the log as an SVG, as the live view tells it: what only says that something begins is left out."""
    timeline = Timeline()
    told = [(envelope, timeline.tell(envelope)) for envelope in log]
    console = Console(width=WIDTH, record=True, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(Text("$ swarm run scenarios/first_steps.yaml", style="bold"))
    for envelope, one in told:
        if not isinstance(envelope.event, MINOR):
            line = Text(one.line(), style=one.style, no_wrap=True)
            line.truncate(WIDTH, overflow="ellipsis")
            console.print(line)
    return console.export_svg(title="swarm", code_format=FORMAT, unique_id="run")


if __name__ == "__main__":
    PICTURE.write_text(picture(asyncio.run(envelopes(sys.argv[1]))), encoding="utf-8")
