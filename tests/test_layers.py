"""The floors of the house: a package imports from floors below it, never up, never sideways."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "tunefork"
# Each room's floor; `data` stands on `core`, and everything of a floor may use all below it.
FLOORS = {
    "core": 0,
    "data": 1,
    "registry": 2,
    "graders": 2,
    "retrieval": 2,
    "models": 2,
    "strategies": 3,
    "inference": 4,
    "objectives": 5,
    "training": 6,
    "evaluation": 6,
    "serving": 7,
    "monitoring": 7,
    "workflow": 8,
    "cli": 9,
    "studio": 9,
    "app": 10,
}
WITHOUT_TORCH = {"core", "data", "graders", "registry", "retrieval", "evaluation"}
HEAVY = {"torch", "transformers", "safetensors"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str | None:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every module that a file imports, also inside functions, but for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def test_every_room_has_a_floor() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms <= FLOORS.keys()
    assert len(rooms) >= 10


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = _room(path)
    for name, line in _imports(path):
        parts = name.split(".")
        if room is None or parts[0] != "tunefork" or len(parts) < 2 or parts[1] not in FLOORS:
            continue
        other = parts[1]
        below = FLOORS[other] < FLOORS[room]
        assert other == room or below, f"{path}:{line}: {room} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_light_rooms_never_import_torch(path: Path) -> None:
    if _room(path) in WITHOUT_TORCH:
        heavy = [(n, line) for n, line in _imports(path) if n.split(".")[0] in HEAVY]
        assert not heavy, f"{path}: {heavy}"


def test_nothing_assigns_into_other_packages() -> None:
    """A patch of foreign code is an assignment to an attribute of an imported module."""
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {
            (alias.asname or alias.name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                root = target
                while isinstance(root, ast.Attribute):
                    root = root.value
                is_foreign = isinstance(root, ast.Name) and root.id in modules
                assert not (is_foreign and isinstance(target, ast.Attribute)), f"{path}: patch"


def test_the_command_line_loads_nothing_heavy() -> None:
    assert not _loaded_with("tunefork.cli, tunefork.cli.app") & (HEAVY | {"numpy", "scipy"})


def test_training_loads_no_web_server() -> None:
    assert not _loaded_with("tunefork.workflow.run") & {"fastapi", "starlette", "uvicorn"}


def _loaded_with(modules: str) -> set[str]:
    """Return what a fresh process has loaded once it has imported modules."""
    code = f"import sys, {modules}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.split())
