"""A tool of one's own."""

import asyncio

from swarm import ToolContext, tool


@tool(effect="reads")
async def word_count(path: str, context: ToolContext) -> int:
    """Count the words of a text file of the project."""
    data = await asyncio.to_thread(context.folder.read, path)
    return len(data.decode().split())
