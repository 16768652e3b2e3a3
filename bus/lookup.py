"""A short name, "package.module:Name" or "./file.py:Name" -> what bears that name, with a helpful error.

The tables of implementations and a scenario's `uses:` hold such strings, so that nothing is imported before it is used.
"""

import importlib
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from hashlib import sha256
from importlib.abc import SourceLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from bus.errors import NotFound
from bus.raised_at import raised_at

_loading = threading.RLock()
"""Held while a file is loaded: another thread would find its module half made."""


def load(name: str, table: Mapping[str, str], base: Path | None = None, *, closed: Sequence[Path] = ()) -> object:
    """Return what `name` names: an entry of `table`, or "module:attribute", or "file.py:attribute".

    Files are found from `base` (None: the current directory); none is loaded that, links followed, lies in one of the
    `closed` folders. A file's module is loaded once for each path and content and stays in `sys.modules` under a name
    of its own. Raises `NotFound`, with the module's own error as cause where importing it failed.
    """
    where = name if ":" in name else table.get(name)
    if where is None:
        raise NotFound(_unknown(name, table))
    target, _, attribute = where.rpartition(":")
    if not target or not attribute:
        raise NotFound(f"{name!r} is cut short: write 'package.module:Name' or './file.py:Name'.")
    is_file = target.endswith(".py") or "/" in target
    module = _file_module(target, base or Path(), closed) if is_file else _module(target)
    return _attribute(module, attribute, target)


def _unknown(name: str, table: Mapping[str, str]) -> str:
    if name.endswith(".py") or "/" in name:
        return f"{name!r} does not say what to take from the file: write '{name}:Name'."
    known = ", ".join(sorted(table)) or "none"
    own = "For one of your own write 'package.module:Name' or './file.py:Name'."
    return f"{name!r} is unknown (known: {known}).{_nearest(name, table)} {own}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _attribute(module: ModuleType, attribute: str, target: str) -> object:
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = [key for key, value in vars(module).items() if key[0] != "_" and not isinstance(value, ModuleType)]
        names = ", ".join(sorted(public)) or "nothing"
        raise NotFound(f"{target!r} has no {attribute!r} (it has: {names}).{_nearest(attribute, public)}") from error


def _module(target: str) -> ModuleType:
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{target}.".startswith(f"{error.name}."):
            raise _failed(target, error) from error
        raise NotFound(f"there is no module {target!r}: is its package installed here?") from error
    except (Exception, SystemExit) as error:
        raise _failed(target, error) from error


def _file_module(target: str, base: Path, closed: Sequence[Path]) -> ModuleType:
    path = (base / target).resolve()
    # The name that counts is the file's own: a link could give any bytes one that ends in .py.
    if path.suffix != ".py":
        raise NotFound(f"{target!r} is no Python file: the name of {str(path)!r} does not end in .py.")
    if any(path.is_relative_to(folder.resolve()) for folder in closed):
        raise NotFound(f"{target!r} is not loaded: what lies in {str(path.parent)!r} was kept there for a run.")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise NotFound(f"{target!r} cannot be read at {str(path)!r}: {error.strerror or error}.") from error
    # The path keeps files of the same name apart, the content keeps an edited file from passing for what was loaded.
    digest = sha256(os.fsencode(path) + b"\0" + source).hexdigest()
    name = re.sub(r"\W", "_", path.stem) + "_" + digest[:16]
    with _loading:
        return sys.modules.get(name) or _run(name, _Source(path, source))


def _run(name: str, loader: "_Source") -> ModuleType:
    spec = spec_from_loader(name, loader)
    if spec is None:  # for mypy: a loader that knows its file always gives one
        raise NotFound(f"{loader.path!r} cannot be loaded.")
    module = sys.modules[name] = module_from_spec(spec)  # before it runs: dataclasses and type hints look it up there
    try:
        loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (Exception, SystemExit)):
            raise _failed(loader.path, error, _remedy(Path(loader.path), error)) from error
        raise
    return module


def _remedy(file: Path, error: BaseException) -> str:
    """Return what to do where a file's import of what lies beside it was in vain; "" where it is something else.

    A file alone has no package, and its folder is not searched: files of the same name would meet there.
    """
    folder = file.parent
    if isinstance(error, ModuleNotFoundError) and error.name:
        beside = folder / error.name
        if beside.with_name(f"{error.name}.py").is_file() or beside.is_dir():
            return f". {error.name!r} lies beside it: start with PYTHONPATH={folder}, or install it"
    elif isinstance(error, ImportError) and "relative import" in str(error):
        said = "A file given by its path is in no package: name it package.module:Name"
        return f". {said}, and start with PYTHONPATH={folder.parent}, or install it"
    return ""


class _Source(SourceLoader):
    """Runs the bytes that were hashed, and leaves no bytecode beside the user's file."""

    def __init__(self, path: Path, source: bytes) -> None:
        self.path = str(path)
        self._source = source

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002 - the loader's contract
        return self.path

    def get_data(self, path: str | bytes) -> bytes:  # noqa: ARG002 - likewise
        return self._source


def _failed(target: str, error: BaseException, remedy: str = "") -> NotFound:
    return NotFound(f"{target!r} raised {type(error).__name__} when imported: {error}{raised_at(error)}{remedy}")
