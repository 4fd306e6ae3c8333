"""Whatever the public API takes, returns or raises can be imported from ``cc_bridge``. covers: C2"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

import cc_bridge
from cc_bridge import ClaudeInstance, blocking, errors
from cc_bridge.bridge.surroundings import Dialer, Surroundings
from cc_bridge.fleet.attended import Inhabited
from cc_bridge.shapes import InstanceFields

ROOT = Path(cc_bridge.__file__).parent
TREES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text())
    for path in ROOT.rglob("*.py")
    if path != ROOT / "__init__.py"
}
PACKAGES = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.rglob("__init__.py")}

#: Made by the house, not by its users: what they are made of is nobody's business.
MADE_FOR_USERS = {"ContainerTools", "Turn", "BlockingTools", "BlockingTurn", "BridgedInstance"}

#: Methods for the bridge alone, which have to be public for another class.
FOR_THE_BRIDGE = {name for name in {*vars(Dialer), *vars(Surroundings), *vars(Inhabited)} if name[0] != "_"}
FOR_THE_BRIDGE.add("use_bridge")


def definitions(module: str) -> dict[str, ast.AST]:
    """Classes, functions and aliases at a module's top level, also below ``if TYPE_CHECKING``."""
    found: dict[str, ast.AST] = {}
    for node in TREES[module].body:
        for inner in node.body if isinstance(node, ast.If) else [node]:
            if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found[inner.name] = inner
            elif isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Name):
                found[inner.targets[0].id] = inner.value
            elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name) and inner.value:
                found[inner.target.id] = inner.value
    return found


def imported(module: str) -> dict[str, str]:
    """Names that a module has from others of the project, and from which."""
    package = module.split(".")[: None if module in PACKAGES else -1]
    found = {}
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            base = package[: len(package) - node.level + 1]
            for alias in node.names:
                found[alias.asname or alias.name] = ".".join([*base, node.module])
    return found


def origin(name: str, module: str) -> tuple[str, ast.AST] | None:
    """Where a name that a module uses is defined, and as what; None: not in this project, or a type variable."""
    node = definitions(module).get(name)
    if node is not None:
        return None if isinstance(node, ast.Call) else (module, node)
    where = imported(module).get(name)
    return origin(name.removeprefix("_"), where) if where in TREES else None


def words(annotation: ast.AST) -> Iterator[str]:
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


def annotated(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    arguments = node.args
    for argument in [*arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if argument is not None and argument.annotation is not None:
            yield from words(argument.annotation)
    if node.returns is not None:
        yield from words(node.returns)


def named_by(node: ast.AST, module: str) -> Iterator[str]:
    """What somebody who uses this thing may have to name."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from annotated(node)
    elif isinstance(node, ast.ClassDef):
        for base in node.bases:
            for word in words(base):
                if word.startswith("_") and (found := origin(word, module)):
                    yield from named_by(found[1], found[0])
                elif not word.startswith("_"):
                    yield word
        for member in node.body:
            if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name) and member.target.id[0] != "_":
                yield from words(member.annotation)
            elif isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                makes = member.name == "__init__" and node.name not in MADE_FOR_USERS
                if makes or (member.name[0] != "_" and member.name not in FOR_THE_BRIDGE):
                    yield from annotated(member)
    else:
        yield from words(node)


def missing(module: str, names: list[str], importable: set[str]) -> set[str]:
    gone = set()
    for name in names:
        found = origin(name, module)
        assert found, f"{module}.{name}"
        for word in named_by(found[1], found[0]):
            if (whose := origin(word, found[0])) and word.lstrip("_") not in importable:
                gone.add(f"{whose[0]}.{word}, of {name}")
    return gone


def test_what_public_names_take_and_return_is_public() -> None:
    public = set(cc_bridge.__all__)
    for place, names in cc_bridge._PLACES.items():
        assert not missing(place, names.split(), public)


def test_what_the_blocking_facade_takes_and_returns_is_public() -> None:
    assert not missing("blocking", blocking.__all__, {*cc_bridge.__all__, *blocking.__all__})


def test_the_walk_finds_what_is_missing() -> None:
    assert missing("instance", ["InstanceInterface"], {"Event"}) >= {
        "turn.Turn, of InstanceInterface",
        "turn.TurnInfo, of InstanceInterface",
        "shapes.InstanceInfo, of InstanceInterface",
    }


def test_every_error_is_public() -> None:
    assert set(errors.__all__) <= set(cc_bridge.__all__)


def test_type_checkers_are_told_the_same() -> None:
    """``_PLACES``, the imports for type checkers and ``__all__``."""
    tree = ast.parse(Path(cc_bridge.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        node.module: sorted(alias.name for alias in node.names)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert shown == {place: sorted(names.split()) for place, names in cc_bridge._PLACES.items()}
    assert sorted(cc_bridge.__all__) == sorted([*cc_bridge._PLACE_OF, "__version__", "blocking"])
    assert sorted(dir(cc_bridge)) == sorted(cc_bridge.__all__)


@pytest.mark.parametrize(
    "before", ["pass", "import cc_bridge.instances.registry", "cc_bridge.open; cc_bridge.Registry"]
)
def test_instances_is_a_function_whatever_was_imported_before(before: str, tmp_path: Path) -> None:
    """The package ``cc_bridge.instances`` has its name."""
    code = f"import cc_bridge; {before}; print(cc_bridge.instances()); from cc_bridge import instances; instances()"
    environment = {"CC_BRIDGE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("module", ["errors", "runner", "instances.registry", "instances.local_process", "blocking"])
def test_a_module_is_there_when_it_is_first_used(module: str) -> None:
    code = f"import cc_bridge; print(cc_bridge.{module}.__name__, hasattr(cc_bridge.instances, 'nothing'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"cc_bridge.{module} False\n", "")


def test_the_record_explains_each_field() -> None:
    """For ``help()``; and ``of`` takes just these."""
    explained = (ClaudeInstance.__doc__ or "").split("Attributes:")[1]
    names = {item.name: item.default is MISSING and item.default_factory is MISSING for item in fields(ClaudeInstance)}
    for name in names:
        assert f"        {name}:" in explained or f", {name}:" in explained or f"        {name}," in explained, name
    assert set(InstanceFields.__annotations__) == set(names)
    assert InstanceFields.__required_keys__ == {name for name, is_needed in names.items() if is_needed}
