"""One tool call as an effect: answered from the journal, refused, or recorded as an intent, done and recorded.

What only looks has no intent. What changes the folder may be done again, on the folder as it was. What acts on the
outside world is done once over all attempts of a request: what an earlier one did is answered with that outcome, and
what nobody knows the outcome of is for a person to say.
"""

import asyncio
import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from pydantic import JsonValue

from agents.briefing import Briefing
from agents.canonical import digest_of
from agents.conversation.fitting import OUTPUT_CAP, cut_middle
from agents.effects import Effects, is_cancelled
from agents.errors import AgentsError, InDoubt, ToolFailed, ToolRefused, TooMuchWritten
from agents.files.attempt_folder import AttemptFolder
from agents.journal import Entry
from agents.sandbox import Sandbox
from agents.tool import Tool, ToolContext
from agents.web.flow import check_flow
from bus.codec import in_unicode
from bus.errors import StorageFailed, is_out_of_files
from bus.events import Path, ToolCalled, ToolReturned
from bus.raised_at import raised_at
from bus.setup import FileChange

log = logging.getLogger("swarm.agents")

LEFT_OUT = 10
"""Of what a tool left that is no usable file, how many are told."""
SKIPPED = "This was begun before, and nobody knows whether it was done. A person said not to do it again."


@dataclass(slots=True)
class ToolCalls:
    """The tool calls of one attempt. `told`: texts whose addresses may be fetched; what the network gives is added."""

    effects: Effects
    folder: AttemptFolder
    briefing: Briefing
    sandbox: Sandbox | None
    request: str
    attempt: int
    told: list[str]
    _begun: dict[Path, str] = field(default_factory=dict)
    """Digests of outward calls under way: begun, and without an outcome."""
    _cut_off: set[str] = field(default_factory=set)
    """Digests of those that ended without an outcome, such as by a timeout of the role's own."""

    async def use(
        self, path: Path, tool: Tool, arguments: Mapping[str, JsonValue], *, shown: int = OUTPUT_CAP
    ) -> ToolReturned:
        """Return what a call gave; an error is a `ToolReturned` too. `shown`: bytes of it that its caller looks at.

        Raises `Diverged`, `InDoubt`, `StorageFailed`.
        """
        with self.effects:
            return await self._use(path, tool, arguments, shown)

    async def _use(self, path: Path, tool: Tool, arguments: Mapping[str, JsonValue], shown: int) -> ToolReturned:
        digest = digest_of({"arguments": arguments, "tool": tool.name})
        done = ToolReturned(
            attempt=self.attempt, path=path, digest=digest, tool=tool.name, arguments=dict(arguments), output=""
        )
        entry = self.effects.begin(done)
        if entry is not None and entry.outcome is not None:
            returned = cast("ToolReturned", await self.effects.recorded(entry))
            await self.folder.recorded(returned.files, returned.whole)
            if tool.network:
                self.told.append(returned.output)
            return returned
        if entry is not None:
            self._begun[path] = digest
        try:
            await self.effects.live()
            return await self._do(done, tool, entry, shown)
        finally:
            if path in self._begun:
                self._cut_off.add(self._begun.pop(path))

    async def _do(self, done: ToolReturned, tool: Tool, entry: Entry | None, shown: int) -> ToolReturned:
        try:
            checked = tool.validate(done.arguments)
        except ToolFailed as wrong:
            return await self._returned(done, str(wrong), error=True, wrong_arguments=True)
        answered = self._without_doing(tool, checked, done.digest)
        if answered is not None:
            output, error = answered
            return await self._returned(done, output, error=error)
        if tool.effect == "reads":
            return await self._run(done, tool, checked, shown)
        await self._intend(done, tool, entry)
        async with self.folder.changing:
            return await self._run(done, tool, checked, shown)

    def _without_doing(self, tool: Tool, arguments: Mapping[str, JsonValue], digest: str) -> tuple[str, bool] | None:
        """Return the answer of a call that is not to be done, and whether it is an error; None: it is to be done."""
        if tool.network and self.briefing.private:
            try:
                check_flow(arguments, self.briefing.permissions, self.told)
            except ToolRefused as error:
                return str(error), True
        if tool.effect != "outward":
            return None
        if digest in self.briefing.outward:
            return self.briefing.outward[digest].output, False
        return (SKIPPED, False) if self.briefing.settled.get(digest) in {"skip", "fail"} else None

    async def _intend(self, done: ToolReturned, tool: Tool, entry: Entry | None) -> None:
        """Have the intent recorded, if it is not. Raises `InDoubt` where to do it might be to repeat it."""
        told_to = entry is not None and self.briefing.settled.get(done.digest) == "retry"
        begun_before = entry is not None or done.digest in self._cut_off
        if begun_before and not tool.idempotent and not told_to:
            raise InDoubt(f"{tool.name} was called in {self.request!r}, and nobody knows whether it was done")
        if entry is not None:
            return
        await self.effects.ask(
            ToolCalled(
                attempt=self.attempt,
                path=done.path,
                digest=done.digest,
                tool=tool.name,
                arguments=done.arguments,
                outward=tool.effect == "outward",
                idempotent=tool.idempotent,
            )
        )
        if tool.effect == "outward":
            self._begun[done.path] = done.digest

    async def _run(
        self, done: ToolReturned, tool: Tool, arguments: Mapping[str, JsonValue], shown: int
    ) -> ToolReturned:
        context = ToolContext(
            await self.folder.open(),
            self.briefing.permissions,
            self.sandbox,
            # Not the attempt: the next one repeats what was under way as this one ended.
            idempotency_key=f"{self.briefing.run}:{self.request}:{done.digest[:32]}",
            shown=shown,
        )
        output, error = "", True
        changes: tuple[FileChange, ...] = ()
        try:
            if tool.effect != "reads":
                await self.folder.before_change()
            output, error = await _outcome_of(tool, arguments, context)
            if tool.effect != "reads":
                changes = await self.folder.changes()
                output = "\n".join(part for part in (output, *_notes(self.folder.left_out)) if part)
        except TooMuchWritten as failure:
            await self.folder.cut_off()
            output = str(failure)
        except ToolFailed as failure:  # what it left in the folder cannot be kept
            output = f"{output}\n{failure}".strip()
            error = error or tool.effect != "outward"  # what was done outside was done all the same
        except BaseException:  # mostly it was cancelled
            if tool.effect != "reads":
                await self.folder.cut_off()
            raise
        if tool.network:
            self.told.append(output)
        return await self._returned(done, output, error=error, files=changes)

    async def _returned(
        self,
        done: ToolReturned,
        output: str,
        *,
        error: bool = False,
        wrong_arguments: bool = False,
        files: tuple[FileChange, ...] = (),
    ) -> ToolReturned:
        whole = None
        output = in_unicode(output)
        if len(output) * 4 > OUTPUT_CAP and len(output.encode()) > OUTPUT_CAP:
            name = f".swarm/output-{'.'.join(map(str, done.path))}.txt"
            whole = await self.folder.keep_output(name, output)
            output = cut_middle(output, OUTPUT_CAP, whole.path if whole else None)
        update = {"output": output, "error": error, "wrong_arguments": wrong_arguments, "files": files, "whole": whole}
        returned = done.model_copy(update=update)
        self._begun.pop(done.path, None)
        await self.effects.done(returned)
        return returned


def _notes(left_out: Sequence[str]) -> Iterator[str]:
    """Say what a tool left in the folder that is in no record, and not there in any other attempt."""
    yield from (f"[{why}]" for why in left_out[:LEFT_OUT])
    if len(left_out) > LEFT_OUT:
        yield f"[{len(left_out) - LEFT_OUT} more are left out.]"


async def _outcome_of(tool: Tool, arguments: Mapping[str, JsonValue], context: ToolContext) -> tuple[str, bool]:
    """Run a tool; return its output, and whether that is an error. A tool that breaks is an error, not a crash.

    Raises `InDoubt` where it acts outward and breaks, unless idempotent: `ToolFailed` says that it did not act. Passes
    on `TooMuchWritten`, and that too many files are open.
    """
    try:
        return await tool.run(arguments, context), False
    except TooMuchWritten:
        raise
    except ToolFailed as failure:
        return str(failure), True
    except (AgentsError, StorageFailed):
        raise
    except (Exception, SystemExit, asyncio.CancelledError) as error:  # the run goes on; the reason is in its log
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        reason = f"{type(error).__name__}: {error}{raised_at(error)}"
        broke = f"{tool.name} broke: {reason}"
        log.warning("%s", broke, extra={"where": "".join(traceback.format_exception(error))})
        if tool.effect == "outward" and not tool.idempotent:
            raise InDoubt(f"{broke}; nobody knows whether it was done") from error
        if isinstance(error, OSError) and is_out_of_files(error):
            raise  # for a person: no model could mend it
        return broke, True
