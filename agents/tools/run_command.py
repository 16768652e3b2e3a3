"""The tool that runs a command of the shell in the sandbox."""

from agents.errors import ToolFailed
from agents.run_program import run_program
from agents.tool import ToolContext, tool


@tool(effect="folder")
async def run_command(context: ToolContext, command: str, timeout_s: int = 60) -> str:
    """Run a command with `sh -c` at the project's root, for at most timeout_s seconds.

    It sees the project's files and no network. Files it writes there stay, as part of your result; what it writes into
    /tmp is gone afterwards.
    """
    if timeout_s < 1:
        raise ToolFailed("run_command wants a timeout_s of at least 1.")
    if not command.strip():
        raise ToolFailed("run_command wants a command.")
    return await run_program(("sh", "-c", command), context, min(timeout_s, context.timeout_s))
