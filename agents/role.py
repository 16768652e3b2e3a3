"""Contract: one kind of request in, one event out, nothing kept in between.

A role is plain async code. Whatever is not deterministic goes through its context (`agents/context.py`), so that the
same code, run again over its journal, goes on from where it stopped.
"""

import functools
import inspect
from abc import ABC, abstractmethod
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from bus.events import Fact

if TYPE_CHECKING:
    from agents.context import Context

RequestT = TypeVar("RequestT", bound=Fact)
ReplyT = TypeVar("ReplyT", bound=Fact)


class Role(ABC, Generic[RequestT, ReplyT]):
    """What an agent can be. Keyword arguments of its own come from `with:` in the scenario."""

    name: ClassVar[str]
    handles: ClassVar[type[Fact]]
    tools: ClassVar[tuple[str, ...]] = ()
    """Tools it is granted where the scenario does not say."""

    def __init_subclass__(cls, **options: object) -> None:
        """Raise `TypeError` for tools that are one text: its letters would be taken for their names."""
        super().__init_subclass__(**options)
        if isinstance(cls.tools, str):
            raise TypeError(f"{cls.__name__}.tools is one text: write a tuple, ({cls.tools!r},)")

    @abstractmethod
    async def handle(self, request: RequestT, ctx: "Context") -> ReplyT:
        """Answer one request. What it raises becomes a `WorkFailed` with its reason."""

    @classmethod
    def about(cls) -> str:
        """Return in one line what the role is for: the first line of its docstring, or of a class it is derived from.

        Without one it is the class's name: what this class here says of roles is nothing that tells one from another.
        """
        derived = cls.__mro__[: cls.__mro__.index(Role)]
        told = next((doc for one in derived if (doc := inspect.cleandoc(one.__doc__ or ""))), cls.__name__)
        return told.partition("\n")[0]


@functools.cache  # read once, not once a request: reading blocks the event loop
def prompt_of(role: type[Role[Any, Any]]) -> str:
    """Return the prompt that lies beside a role of ours as `NAME.md`."""
    return resources.files("agents.roles").joinpath(f"{role.name}.md").read_text(encoding="utf-8").strip()
