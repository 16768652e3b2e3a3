"""For authors of roles and tools: one attempt of a role, with a scripted model, without network, broker or log.

tried = await try_role(Editor(), "Write the brief.", script=[{"reply": "All is well."}])
assert tried.files["newsletter.md"].startswith(b"All is well.")
"""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from agents.briefing import Briefing, Finding
from agents.context import Context, Means
from agents.effects import Effects, reply_of
from agents.files.attempt_folder import AttemptFolder
from agents.model import ModelPlace
from agents.models.scripted import Scripted
from agents.role import Role
from agents.sandboxes.bubblewrap import BubblewrapSandbox
from agents.tool import Tool
from bus.events import Effect, ModelAsked, ResultSubmitted, SubtaskAssigned
from bus.file_store import MemoryFileStore
from bus.setup import FileRef, Permissions, RoleSetup, Subtask
from swarm.preparation.parts import load_tool
from swarm.working.attempt import answer

__all__ = ["Finding", "Tried", "try_role"]


@dataclass(frozen=True, slots=True)
class Tried:
    """What one attempt came to."""

    result: ResultSubmitted
    files: Mapping[str, bytes]
    """The files that it changed or made, by path."""
    effects: tuple[Effect, ...]
    """All that the role did through its context, as the log would have it."""


class _Recorder:
    """Grants and confirms everything at once."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    async def ask(self, event: Effect) -> int:
        """Record an intent."""
        self.effects.append(event)
        return event.max_tokens if isinstance(event, ModelAsked) else 0

    async def tell(self, event: Effect) -> None:
        """Record an outcome."""
        self.effects.append(event)


async def try_role(
    role: Role[Any, Any],
    instruction: str,
    *,
    script: Sequence[Mapping[str, JsonValue]] = (),
    files: Mapping[str, bytes] | None = None,
    tools: Iterable[str | Tool] | None = None,
    findings: Sequence[Finding] = (),
    feedback: Sequence[str] = (),
    goal: str = "",
) -> Tried:
    """Let a role do one subtask and return what it came to; what the role raises passes through.

    Raises `TypeError` for a role that works on something else, and `ToolFailed` for a result that no run would take.

    `script`: entries of a `scripted:` file, such as `{"reply": "done"}`. `files`: what lies in its folder at first.
    `tools`: names or tools of one's own, by default those that the role declares. `findings`: results it builds on.
    """
    if role.handles is not SubtaskAssigned:
        raise TypeError(f"try_role gives a role a subtask, and {role.name!r} handles {role.handles.__name__}")
    store = MemoryFileStore()
    start = {
        path: FileRef(path=path, sha256=await store.put(data), bytes=len(data)) for path, data in (files or {}).items()
    }
    granted = [
        one if isinstance(one, Tool) else load_tool(one, Path()) for one in (role.tools if tools is None else tools)
    ]
    recorder = _Recorder()
    effects = Effects((), recorder)
    with tempfile.TemporaryDirectory() as place:
        _write_script(Path(place, "script.yaml"), script)
        folder = AttemptFolder(Path(place, "folder"), store, start, start)
        context = Context(
            role=role.name,
            request="tried",
            attempt=1 + bool(feedback),
            feedback=tuple(feedback),
            briefing=Briefing(
                goal,
                RoleSetup(model="scripted:script.yaml"),
                Permissions(),
                base=start,
                start=start,
                findings=tuple(findings),
            ),
            means=Means(
                model=Scripted("script.yaml", ModelPlace(folder=Path(place))),
                tools={tool.name: tool for tool in granted},
                sandbox=BubblewrapSandbox(),
            ),
            effects=effects,
            folder=folder,
            deadline_s=60.0,
            instruction=instruction,
        )
        subtask = Subtask(id="tried", role=role.name, instruction=instruction)
        request = SubtaskAssigned(
            subtask=subtask, attempt=context.attempt, agent="test/one", deadline_ms=60_000, feedback=context.feedback
        )
        result = cast("ResultSubmitted", await reply_of(effects, answer(role, request, context)))
        made = {change.path: await store.get(change.sha256) for change in result.files if change.sha256}
    return Tried(result, made, tuple(recorder.effects))


def _write_script(path: Path, script: Sequence[Mapping[str, JsonValue]]) -> None:
    path.write_text(json.dumps([dict(entry) for entry in script]), encoding="utf-8")
