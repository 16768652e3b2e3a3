"""All that a role may use while it works: `converse`, tools, checks, clock, chance, its folder, what it was told.

Each of these is an *effect*: it has a key and a digest, is answered from the journal where the log has it, and else is
done and reported to the run's orchestrator. What a role does through its context can be resumed and replayed.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from pydantic import JsonValue

from agents.briefing import Briefing, Finding
from agents.canonical import digest_of
from agents.check import Check, CheckContext, Verdict
from agents.checks import parse
from agents.conversation.structured import Answer
from agents.dialogue import Act, Ask, Broken, Call, Dialogue, Finished, Outcome
from agents.effects import Effects
from agents.errors import AnswerUnusable, StuckRepeating, ToolFailed, ToolRefused
from agents.files.attempt_folder import AttemptFolder
from agents.files.project_folder import ProjectFolder
from agents.model import Model
from agents.sandbox import Sandbox
from agents.thinking import Thinking
from agents.tool import Tool
from agents.tool_calls import ToolCalls
from bus.codec import in_unicode
from bus.events import (
    CheckEnded,
    CheckStarted,
    ModelTryFailed,
    ResultSubmitted,
    ValueDrawn,
)
from bus.setup import Criterion, FileChange, FileRef, RoleSetup

OTHER_SAMPLING = 0.8
"""Temperature where something was rejected: at 0 a small model hands in the rejected work, or plan, again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a conversation came to."""

    text: str
    """The model's last words."""
    data: Any = None
    """What its answer is as the type that was asked for by `answer=`."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a worker lends its roles."""

    model: Model
    tools: Mapping[str, Tool]
    sandbox: Sandbox | None = None
    window: int | None = None
    """Tokens of the model's context window, where known."""
    temperature: float | None = None
    timeout_s: float = 120.0
    now: Callable[[], float] = time.time
    """Seconds since 1970."""

    @classmethod
    def of(
        cls,
        setup: RoleSetup,
        model: Model,
        tools: Iterable[Tool],
        *,
        sandbox: Sandbox | None = None,
        now: Callable[[], float] = time.time,
    ) -> Self:
        """Return what the agents of a role work with that is set up so."""
        return cls(
            model=model,
            tools={tool.name: tool for tool in tools},
            sandbox=sandbox,
            window=setup.window,
            temperature=setup.temperature,
            timeout_s=setup.timeout_ms / 1000,
            now=now,
        )


class Context:
    """One attempt's view of the world."""

    def __init__(
        self,
        *,
        role: str,
        request: str,
        attempt: int,
        feedback: tuple[str, ...],
        briefing: Briefing,
        means: Means,
        effects: Effects,
        folder: AttemptFolder,
        deadline_s: float,
        instruction: str = "",
        reviews: bool = False,
    ) -> None:
        self.role = role
        self.request = request
        self.attempt = attempt
        self.feedback = feedback
        self.briefing = briefing
        self._means = means
        self._effects = effects
        self._folder = folder
        self._reviews = reviews
        self._not_run: list[Check] = []
        """Of a review: checks that run code and were answered from the journal: what they left is not there."""
        self._until = asyncio.get_running_loop().time() + deadline_s
        self.result_files: tuple[str, ...] | None = None
        told = [briefing.goal, instruction, *(finding.text for finding in briefing.findings)]
        self._calls = ToolCalls(effects, folder, briefing, means.sandbox, request, attempt, told)

    # What it was told

    @property
    def goal(self) -> str:
        """The goal; where it is long, a role that works on subtasks is told its beginning."""
        return self.briefing.goal

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Results of what this request needs."""
        return self.briefing.findings

    @property
    def files(self) -> Mapping[str, FileRef]:
        """The files that the attempt finds in its folder at the start, by path."""
        return self.briefing.start

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools it was granted."""
        return tuple(self._means.tools)

    async def folder(self) -> ProjectFolder:
        """Return the attempt's folder, laid out. What is read from it directly is no effect."""
        with self._effects:
            return await self._folder.lend()

    # Effects

    async def converse(
        self,
        system: str,
        user: str,
        *,
        tools: Iterable[str] | None = None,
        answer: type[object] | None = None,
        max_tokens: int | None = None,
        lacking: Callable[[], Awaitable[str]] | None = None,
    ) -> Reply:
        """Talk with the role's model, which may use the tools, until it has an answer.

        `tools` narrows what the role was granted. `answer`: a pydantic model or other type that the answer must fit;
        it is validated, and repaired once with the error shown. Models are asked for a JSON object: a type that is
        none, such as `list[str]`, is its field `answer`. `lacking` is asked once, at the answer, what the work still
        lacks; where it says something, the model is told and goes on. Raises `AnswerUnusable`, `StuckRepeating`,
        `ModelFailed`, and what ends an attempt from outside.
        """
        granted = self._granted(tools)
        most = self._most_tokens(max_tokens or self.briefing.role.max_tokens)
        dialogue = Dialogue(
            user=user,
            system=system,
            tools=[tool.schema for tool in granted.values()],
            reads=frozenset(name for name, tool in granted.items() if tool.effect == "reads"),
            pollers=frozenset(name for name, tool in granted.items() if tool.polls),
            mode=self.briefing.role.dialogue,
            answer=Answer.of(answer) if answer is not None else None,
            window=self._means.window,
            max_tokens=most,
        )
        thinking = self._thinking(most)
        while True:
            step = dialogue.next()
            match step:
                case Ask():
                    reply = await thinking.ask(step)
                    if isinstance(reply, ModelTryFailed):
                        dialogue.too_long(reply.reason)
                    else:
                        dialogue.answered(reply)
                case Act():
                    dialogue.returned(await self._act(step.calls, granted, dialogue.shown))
                case Finished() if lacking is not None and (text := await lacking()):
                    lacking = None
                    dialogue.not_yet(text)
                case Finished():
                    return Reply(step.text, step.data)
                case Broken(reason, "no_progress"):
                    raise StuckRepeating(reason)
                case Broken():
                    raise AnswerUnusable(step.reason, kind=step.kind)

    async def call_tool(self, name: str, /, **arguments: JsonValue) -> str:
        """Use a tool directly. Raises `ToolRefused` if it is not granted, `ToolFailed` with what it says."""
        tool = self._granted(None).get(name)
        if tool is None:
            raise ToolRefused(f"tool {name!r} is not granted to role {self.role!r}")
        returned = await self._calls.use(self._effects.next_path(), tool, arguments)
        if returned.error:
            raise ToolFailed(returned.output)
        return returned.output

    async def check(self, criterion: Criterion) -> Verdict:
        """Judge one criterion of `accept` by looking or running. Raises `BadCriterion`.

        What its command leaves in the folder of a subtask is taken back: a result holds what roles and tools made.
        """
        with self._effects:
            return await self._check(parse(criterion), criterion)

    async def now(self) -> float:
        """Return the time in seconds since 1970 (UTC); the recorded one when the role is run again."""
        return await self._draw("now", self._means.now)

    async def random(self) -> float:
        """Return a random number from 0 to 1; the recorded one when the role is run again."""
        return await self._draw("random", random.random)

    # Replies

    def result(self, text: str, *, files: Iterable[str] | None = None, data: JsonValue = None) -> ResultSubmitted:
        """Make the reply to a subtask.

        `files`: paths that belong to the result; left out: all that the attempt made, changed or deleted.
        """
        if files is not None:
            _refuse_text("files", files)
        self.result_files = tuple(files) if files is not None else None
        return ResultSubmitted(text=text, data=data)

    async def changes(self) -> tuple[FileChange, ...]:
        """Return the files that belong to the result, stored."""
        with self._effects:
            return await self._folder.result(self.result_files)

    # How effects are done

    def _granted(self, names: Iterable[str] | None) -> Mapping[str, Tool]:
        if names is None:
            return self._means.tools
        _refuse_text("tools", names)
        return {name: self._means.tools[name] for name in names if name in self._means.tools}

    def _most_tokens(self, wanted: int) -> int:
        """Return how long a reply of the model may be: what it is asked needs room in its window as well."""
        window = self._means.window
        return wanted if window is None else min(wanted, window // 2)

    def _thinking(self, max_tokens: int) -> Thinking:
        """Return what asks the role's model in one conversation."""
        means, temperature = self._means, self._means.temperature
        if self.attempt > 1 or self.feedback:
            temperature = max(temperature or 0.0, OTHER_SAMPLING)
        return Thinking(
            effects=self._effects,
            model=means.model,
            role=self.role,
            setup=self.briefing.role,
            attempt=self.attempt,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout_s=means.timeout_s,
            until=self._until,
        )

    async def _act(self, calls: tuple[Call, ...], granted: Mapping[str, Tool], shown: int) -> list[Outcome]:
        """Run the calls of one reply; several only read, and run together."""
        paths = [self._effects.next_path() for _ in calls]  # before any runs: keys do not hang on who is first
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self._calls.use(path, granted[call.name], call.arguments, shown=shown), name=call.name
                )
                for path, call in zip(paths, calls, strict=True)
            ]
        outcomes = []
        for call, task in zip(calls, tasks, strict=True):
            returned = task.result()
            whole = returned.whole.path if returned.whole else None
            outcomes.append(Outcome(call.id, returned.output, returned.error, returned.wrong_arguments, whole))
        return outcomes

    async def _check(self, check: Check, criterion: Criterion) -> Verdict:
        path = self._effects.next_path()
        digest = digest_of({"criterion": criterion, "files": sorted((r.path, r.sha256) for r in self.files.values())})
        started = CheckStarted(attempt=self.attempt, path=path, digest=digest, criterion=criterion)
        entry = self._effects.begin(started)
        if entry is not None and entry.outcome is not None:
            ended = cast("CheckEnded", await self._effects.recorded(entry))
            if check.runs_code and self._reviews:
                self._not_run.append(check)
            return Verdict(ended.verdict, ended.shows, ended.named)
        await self._effects.live()
        if check.runs_code and entry is None:
            await self._effects.ask(started)
        async with self._folder.changing:
            verdict = await self._judge(check)
        ended = CheckEnded(
            attempt=self.attempt,
            path=path,
            digest=digest,
            criterion=criterion,
            verdict=verdict.verdict,
            shows=in_unicode(verdict.shows),
            named=verdict.named,
        )
        await self._effects.done(ended)
        return verdict

    async def _judge(self, check: Check) -> Verdict:
        """Let a check look or run; in work what it leaves in the folder is taken back, since no record has it.

        In a review there is no result that could hold it, and the next check may build on it, also after a crash.
        """
        leaves = check.runs_code and not self._reviews
        if leaves:
            await self._folder.before_change()
        try:
            context = CheckContext(await self._folder.open(), self._means.sandbox, self.briefing.env)
            while self._not_run:
                await self._not_run[0].judge(context)
                self._not_run.pop(0)
            return await check.judge(context)
        finally:
            if leaves:
                await self._folder.cut_off()

    async def _draw(self, kind: Literal["now", "random"], draw: Callable[[], float]) -> float:
        drawn = ValueDrawn(attempt=self.attempt, path=self._effects.next_path(), kind=kind, value=0.0)
        with self._effects:
            entry = self._effects.begin(drawn)
            if entry is not None and entry.outcome is not None:
                return cast("ValueDrawn", await self._effects.recorded(entry)).value
            await self._effects.live()
            value = draw()
            await self._effects.done(drawn.model_copy(update={"value": value}))
            return value


def _refuse_text(name: str, values: Iterable[str]) -> None:
    """Raise `TypeError` for one text in the place of several: its letters would be taken for them."""
    if isinstance(values, str):
        raise TypeError(f"{name} is one text: write a list, [{values!r}]")
