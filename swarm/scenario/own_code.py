"""Code that a scenario brings, looked at without running it: `./file.py:Name` and `package.module:Name`.

`check` promises to import nothing, so the source is parsed and read. What only running would show is not known here;
the loader looks again.
"""

import ast
import importlib.machinery
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import SwarmError, listed, nearest, quote

_MOST_BYTES = 1_048_576


class CodeFault(SwarmError):
    """A reference that leads to nothing usable. `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What the source says of a tool; `effect` is None where it is not declared, what is unclear counts as yes."""

    effect: str | None
    needs_approval: bool
    network: bool


def is_reference(text: str) -> bool:
    """Tell whether a text names code, not something of ours by its short name."""
    return ":" in text or "/" in text or text.endswith(".py")


def find(reference: str, folder: Path) -> tuple[Path, str]:
    """Return the source file and the name in it. Raises `CodeFault`."""
    target, _, name = reference.rpartition(":")
    if not target or not name.isidentifier():
        hint = "Write ./file.py:Name or package.module:Name."
        raise CodeFault(f"{quote(reference)} does not name anything in a file", hint)
    if "/" in target or target.endswith(".py"):
        file = folder / target
        if not file.is_file():
            raise CodeFault(f"there is no file {quote(target)}", f"It is looked for in {folder}.")
        if file.resolve().suffix != ".py":
            raise CodeFault(f"{quote(target)} is no Python file", "Its own name, links followed, has to end in .py.")
        return file, name
    return _module_file(target), name


def declared_tools(file: Path, name: str) -> tuple[str, ...]:
    """Return the tools that a role class declares by literals.

    Raises `CodeFault` where the class is not there, or has them as one text.
    """
    node = _top_level(file, name)
    if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
        raise CodeFault(f"{quote(name)} is a function, a role is a class", "See docs/roles.md.")
    for statement in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(statement, ast.Assign):
            targets = [target.id for target in statement.targets if isinstance(target, ast.Name)]
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            targets = [statement.target.id]
        else:
            continue
        if "tools" in targets and isinstance(text := _constant(statement.value), str):
            raise CodeFault(f"{quote(name)} has its tools as one text", f"Write a tuple: ({quote(text)},)")
        if "tools" in targets and isinstance(statement.value, ast.Tuple | ast.List):
            values = [item.value for item in statement.value.elts if isinstance(item, ast.Constant)]
            return tuple(value for value in values if isinstance(value, str))
    return ()


def tool_facts(file: Path, name: str) -> ToolFacts:
    """Return what `@tool(...)` says of a function. Raises `CodeFault` where it is no tool."""
    node = _top_level(file, name)
    if not isinstance(node, ast.AsyncFunctionDef):
        raise CodeFault(f"{quote(name)} is no async function", "A tool is an `async def` under @tool(effect=…).")
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and _last_name(decorator.func) == "tool":
            said = {word.arg: word.value for word in decorator.keywords}
            effect = _constant(said.get("effect"))
            unclear = None in said  # `**options`: only running would show
            network = unclear or ("network" in said and _constant(said["network"]) is not False)
            approval = unclear or ("needs_approval" in said and _constant(said["needs_approval"]) is not False)
            return ToolFacts(effect if isinstance(effect, str) else None, approval, network or effect == "outward")
    raise CodeFault(f"{quote(name)} is not under @tool(…)", 'Write @tool(effect="reads") above it.')


def brought_with(files: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files and all they import from their own folders, in order of their path."""
    found: dict[Path, None] = {}
    waiting = [file.resolve() for file in files]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found[file] = None
            waiting += _imported_beside(file)
    return tuple(sorted(found))


def _imported_beside(file: Path) -> Iterator[Path]:
    try:
        tree = _parse(file)
    except CodeFault:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            modules = [base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                place = file.parent.joinpath(*parts[:end])
                for candidate in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                    if parts[0] and candidate.is_file():
                        yield candidate.resolve()


def _module_file(module: str) -> Path:
    """Return a module's source without importing its packages (as `importlib.util.find_spec` would)."""
    places: Sequence[str] | None = None
    origin: str | None = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[:end]), places) if all(parts) else None
        if spec is None:
            hint = "Install it where swarm runs, or name a file as ./file.py:Name."
            raise CodeFault(f"there is no module {quote('.'.join(parts[:end]))}", hint)
        places, origin = spec.submodule_search_locations, spec.origin
    if not origin or not origin.endswith(".py"):
        raise CodeFault(f"the module {quote(module)} has no Python source")
    return Path(origin)


def _top_level(file: Path, name: str) -> ast.stmt:
    """Return the statement at the top of a file that defines `name`."""
    defined: dict[str, ast.stmt] = {}
    for node in _parse(file).body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                defined[node.name] = node
            case ast.Assign():
                defined |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
            case ast.Import() | ast.ImportFrom():
                defined |= {alias.asname or alias.name: node for alias in node.names}
    if name not in defined:
        there = [one for one, node in defined.items() if not isinstance(node, ast.Import | ast.ImportFrom)]
        raise CodeFault(f"there is no {quote(name)} in {file.name} (there are: {listed(there)})", nearest(name, there))
    return defined[name]


def _parse(file: Path) -> ast.Module:
    try:
        raw = file.read_bytes()
        if len(raw) > _MOST_BYTES:
            raise CodeFault(f"{file.name} is larger than {_MOST_BYTES:,} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the code read, not of ours
            return ast.parse(raw)
    except SyntaxError as error:
        raise CodeFault(f"{file.name} is not Python: {error.msg} (line {error.lineno})") from error
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise CodeFault(f"{file.name} cannot be read as Python: {error}") from error


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None
