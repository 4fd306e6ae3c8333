"""What all tests share: a state directory of the run's own, real parts on demand, and a look at what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from hypothesis import settings

from cc_bridge import ClaudeInstance, ClaudeOptions, EngineError, InstanceInterface, LocalProcess, logs
from cc_bridge.engine.client import Engine
from cc_bridge.engine.image_names import DEFAULT_IMAGE
from cc_bridge.engine.images import BuildContext, Images
from cc_bridge.errors import BridgeError, ClaudeNotFound
from cc_bridge.instances.process_place import find_claude
from cc_bridge.instances.registry import agent_archive
from cc_bridge.instances.way_out import ask_proxy
from tests import limits, openssh
from tests.chaos import table as chaos
from tests.postgresql import Cluster
from tests.postgresql import programs as postgresql_programs
from tests.turns import using

T = TypeVar("T")

HERE = Path(__file__).parent
STUB = HERE / "stubs" / "claude.py"

#: Parts that must be there: with CC_BRIDGE_REQUIRE=docker,claude a test that lacks one fails and is not skipped.
REQUIRED = set(filter(None, os.environ.get("CC_BRIDGE_REQUIRE", "").split(",")))

_HOW = {
    "docker": "`make engine` starts an engine, `make test` then prepares its images",
    "engine-restart": "where none runs, `make engine` starts one that may be stopped",
    "claude": "`pip install 'cc-bridge[claude]'` brings Claude Code",
    "tmux": "the package tmux brings it",
    "podman": "the packages podman, catatonit and runc bring it, for root",
    "socat": "the packages socat and openssl bring them",
    "ssh": "the packages openssh-server and openssh-client bring it",
    "busybox": "the package busybox brings it",
    "postgresql": "the package postgresql brings it",
    "nginx": "the package nginx-light brings it",
    "systemd": "the package systemd brings systemd-analyze, which needs no systemd that runs",
    "swarm": "as root, with the packages docker.io, iptables, iproute2 and util-linux",
    "root": "run the tests as root; a container's will do",
    "browser": "the package chromium brings it",
    "axe": "`pip install axe-playwright-python` brings it",
    "python": "pyenv or the distribution has other Pythons",
    "npm": "Node.js 20 brings it; it fetches packages by name",
}
_missing: dict[str, str] = {}

# Nothing is timed: how long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

#: Of test processes: enough that the processors are busy while most tests wait.
WORKERS_PER_PROCESSOR = 3


def lacking(part: str, what: str) -> None:
    """A real part is not there: fail where it is required, else skip, and say so at the end."""
    if part in REQUIRED:
        pytest.fail(f"required, but {what}")
    _missing[part] = f"{what} ({_HOW[part]})"
    pytest.skip(what)


# A run: `make test` has several processes to each processor, because tests wait; `pytest FILE` has one


def pytest_configure(config: pytest.Config) -> None:
    """A shell's background job has SIGINT ignored, and `nohup` SIGHUP. What is started from here has them back.

    A handler that does nothing: this process goes on ignoring them, and no program inherits a handler.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    # The stub begins with `env python3`: this Python, and no shim of pyenv's, which takes longer to find one.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    limits.pytest_configure(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`."""
    return WORKERS_PER_PROCESSOR * len(os.sched_getaffinity(0))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several processes: first who wants the engine alone, while nobody has it yet; then the longest.

    Panes and browsers are spread among the others: a Claude Code with a screen takes half a processor, a browser a
    whole one, and several at once would have none left for the keys that they are to hear.
    """
    if not os.environ.get("CC_BRIDGE_THOROUGH"):
        left_out = {item for item in items if item.get_closest_marker("thorough")}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)
        wide = {item for item in items if {"tmux", "browser"} & set(getattr(item, "fixturenames", ()))}
        panes = [item for item in items if item in wide]
        others = [item for item in items if item not in wide]
        step = 0.8 * len(others) / (len(panes) or 1)
        for number, pane in enumerate(panes):
            others.insert(int(number * step) + number, pane)
        items[:] = others


def _rank(item: pytest.Item) -> tuple[bool, bool, bool]:
    alone, docker = item.get_closest_marker("alone"), item.get_closest_marker("docker")
    return (alone is None, item.get_closest_marker("long") is None, docker is not None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test has its turn at what it shares with others, fixtures included; waiting for it is not the test's time."""
    alone = {str(name) for mark in item.iter_markers("alone") for name in mark.args}
    together = {"engine"} if item.get_closest_marker("docker") else set[str]()
    with ExitStack() as stack:
        for name in sorted(alone | together):  # in one order, or two could wait for each other
            stack.enter_context(using(name, alone=name in alone))
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["missing"] = _missing


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _missing.update(getattr(node, "workeroutput", {}).get("missing", {}))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """The last lines before pytest's own: what was not tested."""
    yield
    chaos.write(terminalreporter)
    for part, what in sorted(_missing.items()):
        terminalreporter.write_line(f"NOT TESTED for lack of {part}: {what}", yellow=True)


@pytest.fixture(scope="session", autouse=True)
def state_root() -> Iterator[Path]:
    """A state directory of this process's own, whose instances are all gone at the end of the run."""
    root = Path(tempfile.mkdtemp(prefix="cc-bridge-tests-"))
    os.environ["CC_BRIDGE_HOME"] = str(root)
    _move_to(root / "home")
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"):
        os.environ.pop(name, None)
    yield root
    left = [path.name for path in (root / "instances").glob("*")]
    left += [line for line in _processes() if str(root) in line]
    left += [thread.name for thread in threading.enumerate() if _is_ours(thread)]
    left += _containers(root)
    shutil.rmtree(root, ignore_errors=True)
    assert not left, f"left behind: {left}"


def _move_to(home: Path) -> None:
    """A home directory of the run's own, without a profile.

    Claude Code starts login shells, and some are killed in the middle of one: a profile's lock (pyenv has one) would
    stay behind, and every shell after that would wait for it.
    """
    old = Path.home()
    home.mkdir(mode=0o700)
    os.environ["HOME"] = str(home)
    kept = {"PYENV_ROOT": ".pyenv", "DOCKER_CONFIG": ".docker", "NPM_CONFIG_USERCONFIG": ".npmrc"}
    for name, place in kept.items():
        if (old / place).exists():
            os.environ.setdefault(name, str(old / place))
    if (old / ".config/pip/pip.conf").exists():
        os.environ.setdefault("PIP_CONFIG_FILE", str(old / ".config/pip/pip.conf"))


def _processes() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if "pytest" not in line:
            yield line


def _is_ours(thread: threading.Thread) -> bool:
    return thread is not threading.main_thread() and any(name in thread.name for name in ("scripted-model", "portal"))


def _containers(root: Path) -> list[str]:
    from cc_bridge.state import Installation

    argv = ["docker", "ps", "-aq", "--filter", f"label=cc-bridge.install={Installation.at(root).id}"]
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:
        return []


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def claude() -> str:
    """The path of the real Claude Code."""
    try:
        return find_claude()
    except ClaudeNotFound as error:
        lacking("claude", error.what)
        raise


@pytest.fixture(scope="session")
def tmux() -> None:
    """The real tmux."""
    if shutil.which("tmux") is None:
        lacking("tmux", "tmux is not installed")


@pytest.fixture
def ssh_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of openssh's, which `ssh` may log in to."""
    if not openssh.is_there():
        lacking("ssh", "openssh is not installed")
    with openssh.serve(tmp_path) as (address, programs):
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        yield address


@pytest.fixture(scope="session")
def as_root() -> None:
    """Who runs the tests can play another user."""
    if os.geteuid() != 0:
        lacking("root", "only root can play another user")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL of this process's own."""
    yield from _cluster()


@pytest.fixture
def own_postgresql() -> Iterator[Cluster]:
    """A PostgreSQL of this test's own, to stop and to break."""
    yield from _cluster()


def _cluster() -> Iterator[Cluster]:
    programs = postgresql_programs()
    if programs is None:
        lacking("postgresql", "PostgreSQL is not installed")
        return
    cluster = Cluster(programs)
    try:
        yield cluster
    finally:
        cluster.remove()


@dataclass(frozen=True)
class ImageNames:
    """Images for tests: the default one, and one without Python."""

    claude: str
    bare: str


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine that answers, asked once for the run."""

    async def ask() -> None:
        engine = Engine()
        await engine.client()
        await engine.aclose()

    try:
        run_apart(ask)
    except EngineError as error:
        lacking("docker", error.what)


def run_apart(function: Callable[[], Awaitable[T]]) -> T:
    """Run it in an event loop of its own: a fixture may be asked for by a test that has one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(anyio.run, function).result()


@pytest.fixture(scope="session")
def images(engine: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageNames:
    """The images, made where they are missing: at once where they are cached, a minute or two where not.

    One process of a run sees to it, and the others read what it has found.
    """
    with using("images", alone=True):
        several = hasattr(request.config, "workerinput")
        base = tmp_path_factory.getbasetemp()
        found = (base.parent if several else base) / "images.json"
        if not found.exists():
            found.write_text(json.dumps({"names": asdict(_make_images()), "env": _image_env()}))
        known = json.loads(found.read_text())
    os.environ.update(known["env"])
    return ImageNames(**known["names"])


def _image_env() -> dict[str, str]:
    return {name: os.environ[name] for name in ("CC_BRIDGE_BUILD_NETWORK", "CC_BRIDGE_BASE_IMAGE")}


def _make_images() -> ImageNames:
    script = HERE.parent / "scripts" / "base-image"
    os.environ.setdefault("CC_BRIDGE_BUILD_NETWORK", "host")
    if "CC_BRIDGE_BASE_IMAGE" not in os.environ:
        os.environ["CC_BRIDGE_BASE_IMAGE"] = _output_of(str(script))
    bare_base = _output_of(str(script), "bare")

    async def build() -> ImageNames:
        engine = Engine()
        images = Images(engine)
        claude = await images.ensure(DEFAULT_IMAGE, agent_archive())
        arguments = {"CLAUDE_IMAGE": claude, "BARE_IMAGE": bare_base}
        context = BuildContext((HERE / "images" / "bare.Dockerfile").read_text())
        bare = f"cc-bridge-test:bare-{context.digest(arguments)}"
        if not await images.exists(bare):
            await images.build(context, bare, arguments)
        await engine.aclose()
        return ImageNames(claude, bare)

    return run_apart(build)


def _output_of(*argv: str) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A directory that any user may write to."""
    path = tmp_path / "workspace"
    path.mkdir()
    path.chmod(0o777)
    tmp_path.chmod(0o755)
    return path


MakeRecord = Callable[..., ClaudeInstance]
MakeInstance = Callable[..., Awaitable[Any]]


@pytest.fixture(autouse=True)
def _log_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that is called within a test decides what is logged in its process."""
    monkeypatch.setattr(logs, "_deferred", logs._deferred)


@pytest.fixture
def make_record(workspace: Path) -> MakeRecord:
    """Makes valid records with names of their own."""

    def make(**fields: Any) -> ClaudeInstance:
        name = f"test-{uuid.uuid4().hex[:8]}"
        return ClaudeInstance.of(**{"name": name, "kind": "local", "workspace": workspace, "ephemeral": True, **fields})

    return make


@pytest.fixture
async def make_stubbed(make_record: MakeRecord, tmp_path: Path) -> AsyncIterator[MakeInstance]:
    """Makes local instances with the stub in Claude Code's place; removes them afterwards."""
    made: list[InstanceInterface] = []

    async def make(env: dict[str, str] | None = None, program: str = str(STUB), **options: Any) -> LocalProcess:
        (tmp_path / "home").mkdir(exist_ok=True)
        record = make_record(env={"HOME": str(tmp_path / "home"), **(env or {})}, claude=ClaudeOptions(program=program))
        instance = LocalProcess(record, **options)
        made.append(instance)
        return instance

    yield make
    for instance in made:
        await instance.cleanup()


@pytest.fixture
async def make_local(make_record: MakeRecord, claude: str, claude_env: dict[str, str]) -> AsyncIterator[MakeInstance]:
    """Makes local instances with the real Claude Code and the scripted model; removes them afterwards."""
    made: list[InstanceInterface] = []

    async def make(env: dict[str, str] | None = None, **options: Any) -> LocalProcess:
        record = make_record(env={**claude_env, **(env or {})})
        instance = LocalProcess(record, **options)
        made.append(instance)
        return instance

    yield make
    for instance in made:
        await instance.cleanup()


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A state directory with a proxy of its own, which is ended with the test."""
    path = tmp_path / "state"
    monkeypatch.setenv("CC_BRIDGE_HOME", str(path))
    yield path
    with suppress(BridgeError):
        ask_proxy(path, {"stop": True})
