"""Classes as their source tells them: fields with the type as it is written, and the docstring below each."""

import ast
import inspect
import textwrap
from dataclasses import dataclass
from functools import cache
from types import ModuleType


@dataclass(frozen=True)
class Field:
    """One annotated name of a class."""

    name: str
    type: str
    default: str | None
    told: str


@dataclass(frozen=True)
class Method:
    """One public method: its signature on one line, `async` included, and its docstring."""

    name: str
    signature: str
    told: str


@cache
def class_nodes(module: ModuleType) -> dict[str, ast.ClassDef]:
    """Return the classes of a module by name, in the order of the file."""
    return {node.name: node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ClassDef)}


def doc_of(node: ast.ClassDef) -> str:
    """Return a class's docstring as it is meant to be read."""
    return inspect.cleandoc(ast.get_docstring(node) or "")


def fields_of(node: ast.ClassDef) -> list[Field]:
    """Return the annotated fields of a class; class variables are none."""
    found = []
    for here, below in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(here, ast.AnnAssign) or not isinstance(here.target, ast.Name):
            continue
        kind = ast.unparse(here.annotation)
        if kind.startswith("ClassVar") or here.target.id.startswith("_"):
            continue
        told = below.value.value if _is_text(below) else ""
        default = ast.unparse(here.value) if here.value is not None else None
        found.append(Field(here.target.id, kind, default, " ".join(inspect.cleandoc(told).split())))
    return found


def methods_of(node: ast.ClassDef) -> list[Method]:
    """Return the public methods and properties of a class."""
    found = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_"):
            is_property = any(isinstance(mark, ast.Name) and mark.id == "property" for mark in item.decorator_list)
            told = inspect.cleandoc(ast.get_docstring(item) or "")
            found.append(Method(item.name, _signature(item, is_property=is_property), told))
    return found


def section_of(module: ModuleType, name: str) -> str:
    """Return the heading comment (`# Effects`) that a top-level class stands under."""
    lines = inspect.getsource(module).splitlines()[: class_nodes(module)[name].lineno]
    headings = [
        line[2:] for before, line in zip(["", *lines], lines, strict=False) if line.startswith("# ") and not before
    ]
    return headings[-1] if headings else ""


def _is_text(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _signature(item: ast.FunctionDef | ast.AsyncFunctionDef, *, is_property: bool) -> str:
    returns = f" -> {ast.unparse(item.returns)}" if item.returns else ""
    if is_property:
        return f"{item.name}{returns.replace(' ->', ':')}"
    arguments = ast.unparse(item.args).removeprefix("self, ").removeprefix("self")
    before = "await " if isinstance(item, ast.AsyncFunctionDef) else ""
    return textwrap.shorten(f"{before}{item.name}({arguments}){returns}", 400)
