"""Where in a person's own code an error was raised: what they look for first in a traceback that is mostly ours."""

import re
import sysconfig
import traceback
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_OURS = tuple(f"{_ROOT / name}/" for name in ("bus", "agents", "swarm"))
_OF_PYTHON = (f"{sysconfig.get_path('stdlib')}/", "<")
_INSTALLED = re.compile(r"/(?:site|dist)-packages/")
_PLACE = re.compile(r" \([^\n]+:\d+ in [^\s()]+\)\Z")


def raised_at(error: BaseException) -> str:
    """Return ` (boom.py:10 in helper)`, to be put after the error's text; empty where only code of ours was run.

    It is the innermost line of their own: what their code calls of Python or of an installed package is passed over.
    For code that is itself installed it is the line that we called.
    """
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    others = [one for one in frames if not one[0].co_filename.startswith((*_OURS, *_OF_PYTHON))]
    own = [one for one in others if not _INSTALLED.search(one[0].co_filename)]
    if not others:
        return ""
    code, line = own[-1] if own else others[0]
    return f" ({Path(code.co_filename).name}:{line} in {code.co_qualname})"


def without_place(text: str) -> str:
    """Return an error's text as it is wherever its code stands in its file."""
    return _PLACE.sub("", text)
