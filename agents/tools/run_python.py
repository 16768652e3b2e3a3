"""The tool that runs Python: a file of the project, a module, or a snippet."""

from typing import Annotated

from pydantic import Field

from agents.errors import ToolFailed
from agents.run_program import run_program
from agents.tool import ToolContext, tool


@tool(effect="folder")
async def run_python(
    context: ToolContext,
    path: str = "",
    code: str = "",
    module: Annotated[str, Field(description="as by python -m, such as unittest")] = "",
    args: Annotated[tuple[str, ...], Field(description="of the command line")] = (),
) -> str:
    """Run a Python file of the project (path), a snippet (code) or a module, at the project's root. Give one of these.

    It sees the project's files and no network. Files it writes there stay, as part of your result; what it writes into
    /tmp is gone afterwards. Print what you want to know.
    """
    if bool(path) + bool(code) + bool(module) != 1:
        raise ToolFailed("run_python wants just one of path (a file of the project), code and module.")
    what = ["-c", code] if code else ["-m", module]
    if path:
        what = [f"./{path}"]  # without its "./" one that begins with "-" would be an option
    return await run_program(("python", *what, *args), context, context.timeout_s)
