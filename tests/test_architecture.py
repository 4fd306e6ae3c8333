"""The house stays as docs/architecture.md draws it: purity, allowed imports, no cycles, light imports."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cc_bridge
import cc_bridge_agent

ROOT = Path(cc_bridge.__file__).parent
AGENT = Path(cc_bridge_agent.__file__).parent
PROJECT = Path(__file__).parent.parent

#: What each room may import of this project. Nothing points up.
RUNGS = {
    "cli": {
        "proxy",
        "bridge",
        "names",
        "service",
        "config",
        "decisions",
        "fleet",
        "runner",
        "manager",
        "state",
        "login",
        "dockerfiles",
        "blocking",
        "instances",
        "engine",
        "channels",
        "protocol",
        "instance",
        "record",
        "kinds",
        "limits",
        "turn",
        "events",
        "errors",
        "logs",
        "agent",
    },
    "sdk": {"bridge", "errors", "instances", "logs", "sdk_command", "sdk_sessions"},
    "sdk_command": {"errors", "values"},
    "sdk_sessions": {"instances", "names", "values"},
    "fleet": {
        "beneath",
        "record",
        "values",
        "channels",
        "decisions",
        "engine",
        "instances",
        "bridge",
        "protocol",
        "permission_rules",
        "instance",
        "names",
        "mounts",
        "shapes",
        "turn",
        "events",
        "errors",
        "logs",
        "state",
    },
    "client": {"errors"},
    "proxy": {
        "allowed_hosts",
        "bridge",
        "channels",
        "errors",
        "instances",
        "ip_addresses",
        "limits",
        "login",
        "logs",
        "names",
        "protocol",
        "record",
        "state",
        "values",
        "agent",
    },
    "service": {
        "__init__",
        "beneath",
        "checks",
        "config",
        "fleet",
        "instances",
        "ip_addresses",
        "engine",
        "protocol",
        "permission_rules",
        "decisions",
        "instance",
        "record",
        "names",
        "shapes",
        "turn",
        "events",
        "errors",
        "logs",
        "state",
        "values",
    },
    "config_values": {"checks"},
    "permission_rules": set(),
    "config": {
        "config_values",
        "errors",
        "fleet",
        "instance",
        "kinds",
        "limits",
        "names",
        "permission_rules",
        "record",
        "protocol",
    },
    "blocking": {
        "blocking_tools",
        "event_loop",
        "engine",
        "instances",
        "protocol",
        "instance",
        "record",
        "shapes",
        "turn",
        "events",
        "errors",
    },
    "blocking_tools": {"event_loop", "engine"},
    "testing": {"channels", "protocol", "fleet", "instance", "record", "shapes", "turn", "events", "errors"},
    "cluster": {"engine", "errors", "logs", "names", "values"},
    "instances": {
        "values",
        "beneath",
        "bridge",
        "cluster",
        "decisions",
        "dockerfiles",
        "engine",
        "channels",
        "protocol",
        "instance",
        "record",
        "names",
        "mounts",
        "shapes",
        "turn",
        "events",
        "errors",
        "logs",
        "state",
        "login",
        "agent",
        "__init__",
    },
    "bridge": {"values", "channels", "protocol", "instance", "names", "turn", "events", "errors", "logs"},
    "channels": {"engine", "protocol", "errors", "agent"},
    "runner": {"manager", "engine", "protocol", "errors", "agent"},
    "manager": {
        "beneath",
        "dockerfiles",
        "engine",
        "limits",
        "mounts",
        "state",
        "login",
        "errors",
        "logs",
        "__init__",
    },
    "engine": {"values", "beneath", "dockerfiles", "limits", "mounts", "errors", "logs"},
    "state": {"values", "errors", "agent"},
    "login": {"errors"},
    "beneath": set(),
    "dockerfiles": {"state", "errors"},
    "instance": {"decisions", "record", "protocol", "shapes", "turn", "events", "errors"},
    "record": {"kinds", "permission_rules", "record_fields", "shapes", "limits", "mounts", "protocol", "errors"},
    "record_fields": {"allowed_hosts", "checks", "permission_rules", "names", "limits", "mounts", "protocol"},
    "allowed_hosts": {"ip_addresses", "values"},
    "ip_addresses": set(),
    "checks": set(),
    "kinds": set(),
    "decisions": {"values", "events", "errors"},
    "limits": set(),
    "mounts": {"errors"},
    "shapes": {"limits", "permission_rules", "protocol"},
    "names": set(),
    "event_loop": {"errors"},
    "turn": {"values", "events", "errors"},
    "protocol": {"events", "errors", "names", "values", "agent"},
    "logs": set(),
    "events": {"values"},
    "values": set(),
    "errors": set(),
}

LONGEST_MODULE = 450
LONGEST_CLASS = 350

#: Longer modules and classes, and why.
LONGER = {
    "service/page/markup.py": "one rule after the other for how hostile text becomes HTML, with its limits",
    "fleet/attended.py": "one task, and all who wait for it: they share one state",
    "fleet/attended.py:Attended": "one task, and all who wait for it: they share one state",
    "testing/fleet_contract.py": "a list of rules, which is read and subclassed as one",
    "testing/fleet_contract.py:FleetContract": "a list of rules, which is read and subclassed as one",
    "testing/instance_contract.py": "a list of rules, which is read and subclassed as one",
    "testing/instance_contract.py:InstanceContract": "a list of rules, which is read and subclassed as one",
}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> set[str]:
    """Rooms of this project that a module imports, also for types only."""
    found = set()
    package = ["cc_bridge", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [*base, *(node.module.split(".") if node.module else [])]
            if len(names) > 1:
                found.add(names[1])
            else:
                found |= {alias.name if alias.name in RUNGS else "__init__" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cc_bridge_agent"):
            found.add("agent")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cc_bridge"):
            pytest.fail(f"{path}: absolute import of the project's own {node.module}")
    return found - {room(path)}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_points_up(path: Path) -> None:
    if room(path) == "__init__":
        return
    assert imports(path) <= RUNGS[room(path)]


def test_channels_know_the_engine_only_where_it_is_one() -> None:
    users = {path.stem for path in (ROOT / "channels").glob("*.py") if "engine" in imports(path)}
    assert users == {"docker_exec", "direct"}


#: Owners of state, from the ground up; see docs/architecture.md.
OWNERS = {
    "protocol": (
        "prompt",
        "commands",
        "remembered",
        "bounded_text",
        "streamed_answer",
        "verdicts",
        "turn_state",
        "turns",
        "outbox",
        "agent_queue",
        "control_requests",
        "delivery",
        "permission_requests",
        "attribution",
        "claude_output",
        "conversation",
    ),
    "bridge": (
        "surroundings",
        "connection",
        "uplink",
        "attempts",
        "agent_events",
        "driver",
        "kept_turns",
        "permissions",
        "followers",
        "bridge",
    ),
}


@pytest.mark.parametrize("folder", OWNERS)
def test_no_owner_of_state_knows_who_holds_it(folder: str) -> None:
    for number, name in enumerate(OWNERS[folder]):
        assert not siblings(folder, name) & set(OWNERS[folder][number:]), name


def siblings(folder: str, name: str) -> set[str]:
    """Modules of the same folder that one of them imports."""
    tree = ast.parse((ROOT / folder / f"{name}.py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
    return {node.module or alias.name for node in nodes for alias in node.names}


def test_the_uplink_knows_nothing_of_turns() -> None:
    modules = [ROOT / "bridge" / f"{name}.py" for name in ("surroundings", "connection", "uplink")]
    assert not {"turn", "events", "instance"} & set.union(*(imports(path) for path in modules))
    assert not [path.name for path in modules if "conversation import" in path.read_text()]


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return set(done.stdout.split())


@pytest.mark.parametrize("module", sorted(path.stem for path in (ROOT / "protocol").glob("[a-z]*.py")))
def test_the_cores_do_no_io(module: str) -> None:
    io = {"anyio", "asyncio", "socket", "subprocess", "threading", "time", "docker", "selectors", "structlog"}
    pure = loaded_by("pass")
    assert not (loaded_by(f"import cc_bridge.protocol.{module}") - pure) & io


def test_importing_the_package_is_cheap() -> None:
    assert not loaded_by("import cc_bridge") & {"docker", "structlog", "pydantic", "anyio"}


def test_help_and_completion_load_nothing_heavy() -> None:
    heavy = {"docker", "structlog", "prompt_toolkit", "pydantic", "rich"}
    assert not loaded_by("import cc_bridge.cli.app") & heavy


#: What `cc-bridge send` does before it waits for a token; each of the first costs some milliseconds.
SEND = """
from cc_bridge.cli import quick
quick.read(["send", "name", "prompt"])
from cc_bridge.cli import asking, display, without_tls
without_tls.import_anyio()
import cc_bridge.instances.factory, cc_bridge.instances.local_process
"""


def test_what_a_command_to_an_instance_may_load() -> None:
    """covers: P5"""
    loaded = loaded_by(f"exec({SEND!r})") - loaded_by("pass")
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert foreign <= {"cc_bridge", "cc_bridge_agent", "anyio", "sniffio", "typing_extensions", "exceptiongroup"}
    slow = {"ssl", "uuid", "tempfile", "shutil", "tarfile", "zipfile", "secrets", "random", "argparse", "http", "email"}
    assert not loaded & slow
    of_others = ("cc_bridge.engine", "cc_bridge.manager", "cc_bridge.runner", "cc_bridge.dockerfiles")
    assert not [name for name in loaded if name.startswith(of_others)]
    assert not loaded & {f"cc_bridge.{name}" for name in ("instances.worktrees", "cli.app", "cli.record_options")}


def test_the_public_names_are_there() -> None:
    for name in cc_bridge.__all__:
        assert getattr(cc_bridge, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        cc_bridge.nonsense  # noqa: B018


def test_every_public_name_says_what_it_is() -> None:
    silent = []
    for path in modules():
        name = ".".join(["cc_bridge", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        module = importlib.import_module(name)
        if path.stat().st_size and not module.__doc__:
            silent.append(name)
        for public in getattr(module, "__all__", []):
            thing = getattr(module, public)
            own = getattr(thing, "__module__", "") == name
            if own and callable(thing) and not thing.__doc__:
                silent.append(f"{name}.{public}")
    assert not silent


@pytest.mark.parametrize("module", ["translator", "host_output", "answer", "input_line", "turn", "text", "http"])
def test_the_panes_cores_do_no_io(module: str) -> None:
    io = {"asyncio", "socket", "subprocess", "threading", "time", "selectors", "ctypes"}
    package = loaded_by("import cc_bridge_agent")
    assert not (loaded_by(f"import cc_bridge_agent.pane.{module}") - package) & io


def test_the_agent_needs_the_standard_library_only() -> None:
    for path in AGENT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names, path


def test_nothing_is_too_long_without_a_reason() -> None:
    """Nor has anything a reason that does not need one."""
    longer = set()
    for path in modules():
        name, text = str(path.relative_to(ROOT)), path.read_text()
        if len(text.splitlines()) > LONGEST_MODULE:
            longer.add(name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and (node.end_lineno or 0) - node.lineno >= LONGEST_CLASS:
                longer.add(f"{name}:{node.name}")
    assert longer == set(LONGER)


def test_the_agent_stays_small() -> None:
    sizes = {path.name: len(path.read_text().splitlines()) for path in AGENT.glob("*.py")}
    assert max(sizes.values()) <= 400, sizes
    assert sum(sizes.values()) <= 3665, sizes
    panes = {path.name: len(path.read_text().splitlines()) for path in AGENT.glob("pane/*.py")}
    assert max(panes.values()) <= 620, panes


def test_no_folder_passes_for_the_docker_sdk() -> None:
    import docker

    assert docker.__file__, "`import docker` found the project's folder: is the SDK installed?"
    for folder in ("docker", "agent", "tests"):
        assert not (PROJECT / folder / "__init__.py").exists()


def test_the_host_has_no_sleep_and_no_broad_except() -> None:
    for path in [*modules(), *AGENT.rglob("*.py")]:
        if "testing" in path.parts:
            continue
        text = path.read_text()
        assert not re.search(r"(time|io)\.sleep\(|import .*\bsleep\b", re.sub(r".*# back-off.*", "", text)), path
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(r"\s*except( Exception| BaseException)?:\s*$", line):
                following = text.splitlines()[number : number + 6]
                assert any("raise" in later for later in following), f"{path}:{number} swallows everything"
