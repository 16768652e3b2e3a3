"""The tool that runs Python: a file of the project, or a snippet."""

from agents.errors import ToolFailed
from agents.run_program import run_program
from agents.tool import ToolContext, tool


@tool(effect="folder")
async def run_python(context: ToolContext, path: str = "", code: str = "") -> str:
    """Run a Python file of the project (path), or a snippet (code), at the project's root. Give one of the two.

    It sees the project's files and no network; files it writes there stay. Print what you want to know.
    """
    if bool(path) == bool(code):
        raise ToolFailed("run_python wants either path (a file of the project) or code, not both and not none.")
    if code:
        return await run_program(("python", "-c", code), context, context.timeout_s)  # so no file is left behind
    # without its "./" a path that begins with "-" would be an option
    return await run_program(("python", f"./{path}"), context, context.timeout_s)
