"""The order of the package: imports run downwards only, and there are no cycles."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import elman
from elman.tasks import TASKS

ROOT = Path(elman.__file__).parent
#: The parts of the package, from the top down. A part imports parts below it, and itself.
ORDER = [
    "cli", "benchmarks", "sklearn", "chains", "api", "nn", "tasks", "training", "decoding", "networks", "metrics",
    "media", "layers", "engines", "cells", "data", "config", "errors", "version", "reference",
]  # fmt: skip
#: Modules that only name what others define, for lazy imports.
NAMES = {"elman", "elman.__main__"}


def modules() -> dict[str, Path]:
    """Every module of the package by name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = ["elman", *path.relative_to(ROOT).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> dict[str, set[str]]:
    """What each module imports of the package, wherever in its text."""
    every = modules()
    graph = {}
    for name, path in every.items():
        met: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                met |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                met |= {one if one in every else node.module for one in whole}
        graph[name] = (met & set(every)) - {name}
    return {name: met for name, met in graph.items() if name not in NAMES}


def part(module: str) -> str:
    return module.split(".")[1]


def test_imports_run_downwards() -> None:
    assert {part(name) for name in imports()} == set(ORDER)
    wrong = [
        f"{name} imports {other}"
        for name, met in imports().items()
        for other in met - NAMES
        if ORDER.index(part(other)) < ORDER.index(part(name))
    ]
    assert not wrong


def test_the_reference_stands_alone() -> None:
    assert all(
        part(other) == "reference" for name, met in imports().items() if part(name) == "reference" for other in met
    )


def test_no_cycles() -> None:
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert state.get(name) != 1, " -> ".join([*path[path.index(name) :], name])
        if name in state:
            return
        state[name] = 1
        for other in sorted(imports().get(name, ())):
            visit(other, (*path, name))
        state[name] = 2

    for name in imports():
        visit(name, ())


def test_generic_code_knows_no_task_and_asks_no_model_for_its_attributes() -> None:
    """Only `elman.tasks` names a task; what a model can do is said by abstract classes."""
    for name, path in modules().items():
        if name in NAMES or part(name) in ("tasks", "benchmarks"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if part(name) in ("cli", "api", "training", "media"):
                assert not (isinstance(node, ast.Constant) and node.value in TASKS), f"{name}, line {node.lineno}"
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("hasattr", "getattr")
            ):
                asked = ast.unparse(node.args[0])
                assert "model" not in asked and "task" not in asked, f"{name}, line {node.lineno}"


def test_the_library_leaves_its_process_alone() -> None:
    """Importing and training need no terminal display, and set no environment variable."""
    for name, met in imports().items():
        if part(name) not in ("cli", "benchmarks"):
            assert not any(part(other) == "cli" for other in met), name
            text = modules()[name].read_text(encoding="utf-8")
            assert "import rich" not in text and "from rich" not in text, name
            assert "environ.setdefault" not in text and "putenv" not in text, name
            stored = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Subscript)]
            assert not any(isinstance(n.ctx, ast.Store) and ast.unparse(n.value) == "os.environ" for n in stored), name
