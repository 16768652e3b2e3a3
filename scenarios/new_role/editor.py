"""A role of one's own: it needs nothing but `import swarm`."""

from typing import ClassVar

from swarm import Context, ResultSubmitted, Role, SubtaskAssigned

PROMPT = """You are the editor of a newsletter. Write the text you are asked for, from the facts you are given and from
nothing else: at most {most_words} words, in whole sentences, in a {style} style. Keep every date, price and name as it
is. Your answer is the text itself, with nothing before or after it."""


class Editor(Role[SubtaskAssigned, ResultSubmitted]):
    """Turns findings into a short text for busy readers, and writes it to a file."""

    name: ClassVar[str] = "editor"
    handles: ClassVar[type] = SubtaskAssigned
    tools: ClassVar[tuple[str, ...]] = ("write_file",)  # the scenario adds the one of its own

    def __init__(self, file: str = "newsletter.md", style: str = "plain", most_words: int = 120) -> None:
        """Take what stands under `with:` in the scenario."""
        self.file = file
        self.most_words = most_words
        self.prompt = PROMPT.format(style=style, most_words=most_words)

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        """Let the model write; write and measure the file here, for what code can do needs no model."""
        task = "\n\n".join(
            [request.subtask.instruction, *(finding.text for finding in ctx.findings), *request.feedback]
        )
        draft = await ctx.converse(self.prompt, task, tools=())
        words = await self._write(draft.text, ctx)
        if words > self.most_words:
            # The long text is not shown: who sees it copies it.
            again = f"{task}\n\nYour last text had {words} words. Write just one short sentence for each fact."
            draft = await ctx.converse(self.prompt, again, tools=())
            words = await self._write(draft.text, ctx)
        return ctx.result(f"{self.file} has {words} words.", files=[self.file])

    async def _write(self, text: str, ctx: Context) -> int:
        await ctx.call_tool("write_file", path=self.file, content=f"{text.strip()}\n")
        return int(await ctx.call_tool("word_count", path=self.file))
