"""Engines that are reached otherwise: tcp, ssh, contexts, Podman. Pipes off, exec on, by itself. covers: M13, C13"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import ClaudeInstance, DockerContainer
from cc_bridge.engine.address import find_address, ssh_command
from cc_bridge.engine.client import Engine
from cc_bridge.errors import EngineUnavailable, InvalidInput
from cc_bridge.manager.manager import ContainerManager
from cc_bridge.manager.options import ContainerOptions
from cc_bridge.testing import ScriptedModel
from tests.conftest import lacking

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

MakeRecord = Callable[..., ClaudeInstance]


@pytest.fixture
async def make_remote(
    make_record: MakeRecord, scripted_model: ScriptedModel, images: Any
) -> AsyncIterator[Callable[..., DockerContainer]]:
    made: list[DockerContainer] = []

    def make(**fields: Any) -> DockerContainer:
        fields = {"image": images.claude, "network": "host", "ephemeral": False, **fields}
        made.append(DockerContainer(make_record(kind="docker", env=scripted_model.claude_env(), **fields)))
        return made[-1]

    yield make
    for instance in made:
        await instance.remove(conversation=True)
        await instance.cleanup()


def volumes(instance: DockerContainer) -> set[str]:
    """Those of this instance's, also under its name in another installation."""
    done = subprocess.run(["docker", "volume", "ls", "-q"], capture_output=True, text=True, check=True, env=local_env())
    return {name for name in done.stdout.split() if instance.name in name}


def local_env() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def join(connection: socket.socket) -> None:
    """One connection to the engine, both ways, with the end of each way."""
    with connection, socket.socket(socket.AF_UNIX) as upstream:
        upstream.connect("/var/run/docker.sock")
        back = threading.Thread(target=copy, args=[upstream, connection])
        back.start()
        copy(connection, upstream)
        back.join()


@pytest.fixture
def tcp(engine: None) -> Iterator[str]:
    """The engine's address over tcp."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=join, args=[connection], daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def ssh(engine: None, ssh_server: str) -> str:
    """The engine's address over a server of openssh's."""
    return ssh_server


@pytest.fixture
def tls(engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The engine's address over TLS, with keys of this test's own for both sides."""
    socat, openssl = shutil.which("socat"), shutil.which("openssl")
    if not socat or not openssl:
        lacking("socat", "socat or openssl is not installed")
    certificates = tmp_path / "certificates"
    certificates.mkdir()

    def make(*words: str) -> None:
        subprocess.run([str(openssl), *words], check=True, capture_output=True, cwd=certificates)

    key = ("-newkey", "rsa:2048", "-nodes")
    make("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    (certificates / "extra").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    for name in ("server", "client"):
        out = f"{name}-key.pem" if name == "server" else "key.pem"
        cert = f"{name}-cert.pem" if name == "server" else "cert.pem"
        make("req", *key, "-keyout", out, "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", "extra")
        make("x509", "-req", "-in", f"{name}.csr", "-out", cert, *signed)
    listen = f"OPENSSL-LISTEN:0,bind=127.0.0.1,fork,cert={certificates}/server-cert.pem"
    listen += f",key={certificates}/server-key.pem,cafile={certificates}/ca.pem,verify=1"
    words = [str(socat), "-d", "-d", "-t", "60", listen, "UNIX-CONNECT:/var/run/docker.sock"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if "listening on" in line:
                port = int(line.rpartition(":")[2])
                break
        threading.Thread(target=server.stderr.read, daemon=True).start()
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
        yield f"tcp://127.0.0.1:{port}"
        os.killpg(server.pid, signal.SIGTERM)  # with a child for each connection


@pytest.fixture(params=["tcp", "tls", "ssh"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    address: str = request.getfixturevalue(request.param)
    monkeypatch.setenv("DOCKER_HOST", address)
    return address


@pytest.mark.long
async def test_a_conversation_with_an_engine_elsewhere(
    elsewhere: str, make_remote: Callable[..., DockerContainer], scripted_model: ScriptedModel
) -> None:
    """By exec, with volumes for what is otherwise a directory of this machine; and it outlives its container."""
    instance = make_remote()
    assert await instance.send_command_and_wait("[[say from afar]] the first words", 60) == (True, "from afar")
    info = await instance.get_info()
    assert info["channel"] == "exec"
    assert {volume.partition(":")[0] for volume in info["volumes"]} >= volumes(instance) != set()
    assert not any("/run/cc-bridge" in volume for volume in info["volumes"])
    assert await instance.is_running()
    await instance.stop()
    assert await instance.send_command_and_wait("[[say again]]", 60) == (True, "again")
    name = instance.name
    await instance.remove()
    assert not volumes(instance)
    again = DockerContainer(instance.record)
    try:
        assert await again.send_command_and_wait("[[say back]]", 60) == (True, "back")
        assert "the first words" in json.dumps(scripted_model.requests[-1].body["messages"])
    finally:
        await again.remove(conversation=True)
        await again.cleanup()
    assert name == again.name
    assert not volumes(instance)


async def test_a_workspace_that_is_not_there(
    tcp: str, make_remote: Callable[..., DockerContainer], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", tcp)
    instance = make_remote()
    workspace.rmdir()
    with pytest.raises(InvalidInput, match="directories of the engine's machine"):
        await instance.start()


async def test_a_stranger_over_tls(tls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """covers: C15"""
    certificates = Path(os.environ["DOCKER_CERT_PATH"])
    (certificates / "ca.pem").write_text((certificates / "server-cert.pem").read_text())
    monkeypatch.setenv("DOCKER_HOST", tls)
    with pytest.raises(EngineUnavailable, match=r"no trust between .* DOCKER_CERT_PATH"):
        await Engine().client()


async def test_ssh_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:  # bound, so that nobody else has the port, and not listening
        deaf.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DOCKER_HOST", f"ssh://nobody@127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(EngineUnavailable, match="Connection refused"):
            await Engine().client()


PROGRAM = """
import anyio
from cc_bridge.engine.client import Engine

async def main():
    engine = Engine()
    await engine.client()
    print("up", flush=True)
    await anyio.sleep(60)

anyio.run(main)
"""


async def test_a_program_that_is_killed_leaves_no_ssh(ssh: str) -> None:
    """Its end of ssh's stdin ends ssh."""
    with tempfile.TemporaryDirectory() as directory:
        env = {**os.environ, "DOCKER_HOST": ssh, "TMPDIR": directory}
        argv = [sys.executable, "-c", PROGRAM]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert children
            process.kill()
        with anyio.fail_after(20):
            while any(Path(f"/proc/{child}").exists() for child in children):
                await anyio.sleep(0.05)


async def test_contexts(tmp_path: Path, engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"mine").hexdigest()
    meta.mkdir(parents=True)
    link = tmp_path / "link.sock"
    link.symlink_to("/var/run/docker.sock")
    endpoints = {"docker": {"Host": f"unix://{link}", "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(json.dumps({"Name": "mine", "Metadata": {}, "Endpoints": endpoints}))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "mine"}))
    engine_ = Engine()
    assert await engine_.version()
    assert (engine_.address, engine_.source) == (f"unix://{link}", "context mine")
    await engine_.aclose()
    monkeypatch.setenv("DOCKER_CONTEXT", "nonsense")
    with pytest.raises(InvalidInput, match="no Docker context 'nonsense'"):
        await Engine().client()
    monkeypatch.setenv("DOCKER_HOST", "gopher://x")
    with pytest.raises(InvalidInput, match="begins with unix://"):
        await Engine().client()


def test_addresses_that_could_be_options() -> None:
    """What is in DOCKER_HOST is not a way to give ssh options."""
    with pytest.raises(InvalidInput):
        find_address({"DOCKER_HOST": "ssh://-oProxyCommand=touch%20x/"})
    argv = ssh_command("ssh://me@host:2222/run/user/1/docker.sock", "/tmp/s")
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[argv.index("-l") + 1] == "me"
    assert argv[argv.index("--") + 1] == "host"
    assert "/tmp/s:/run/user/1/docker.sock" in argv


async def test_the_engine_comes_back(tcp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """covers: M13: what is safe to repeat is tried again after 1, 2 and 4 s."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))  # and not listening yet
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    engine = Engine()
    versions: list[str] = []

    async def ask() -> None:
        versions.append(await engine.version())

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=join, args=[connection], daemon=True).start()

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.sleep(1.5)
        assert not versions
        listener.listen()
        threading.Thread(target=serve, args=[listener], daemon=True).start()
    assert versions
    await engine.aclose()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def podman(images: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Podman's socket, with storage of this test's own and the default image in it."""
    program, runtime = shutil.which("podman"), shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    if os.getuid() or not program or not runtime:
        lacking("podman", "podman, runc or root is missing")
    place = Path(tempfile.mkdtemp(prefix="podman-"))  # it takes no path that is longer than 50 characters
    config = f'[containers]\ndefault_ulimits = []\n[engine]\nruntime = "{runtime}"\nevents_logger = "file"\n'
    (place / "containers.conf").write_text(f'{config}cgroup_manager = "cgroupfs"\n[engine.runtimes]\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(place / "containers.conf"))
    base = [str(program), "--runtime", str(runtime), "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"]
    base += ["--root", str(place / "root"), "--runroot", str(place / "run"), "--tmpdir", str(place / "tmp")]
    with subprocess.Popen(["docker", "save", images.claude], stdout=subprocess.PIPE) as saved:
        subprocess.run([*base, "load", "-q"], stdin=saved.stdout, stdout=subprocess.DEVNULL, check=True)
    subprocess.run([*base, "tag", f"localhost/{images.claude}", f"docker.io/library/{images.claude}"], check=True)
    path = place / "podman.sock"
    with (place / "service.log").open("w") as log:
        service = subprocess.Popen([*base, "system", "service", "--time=0", f"unix://{path}"], stderr=log)
    while not path.exists():
        assert service.poll() is None, (place / "service.log").read_text()
        time.sleep(0.05)
    # It answers when it has looked through its storage.
    subprocess.run(["docker", "-H", f"unix://{path}", "version"], stdout=subprocess.DEVNULL, check=True, timeout=120)
    yield str(path)
    service.terminate()
    service.wait()
    for process in Path("/proc").glob("[0-9]*"):  # which outlive their commands by minutes
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"conmon") and any(str(place).encode() in word for word in command):
                os.kill(int(process.name), signal.SIGKILL)
    for mounted in [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()][::-1]:
        if mounted.startswith(str(place)):
            subprocess.run(["umount", "-l", mounted], check=True)
    shutil.rmtree(place)


@pytest.mark.long
@pytest.mark.timeout(300)  # the image is copied to another engine
async def test_podman(
    podman: str, make_remote: Callable[..., DockerContainer], monkeypatch: pytest.MonkeyPatch, images: Any
) -> None:
    """On this kernel, even its pipes are the same."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{podman}")
    instance = make_remote()
    assert await instance.send_command_and_wait("[[say from podman]]", 60) == (True, "from podman")
    assert (await instance.get_info())["channel"] == "pipes"
    await instance.stop()
    assert await instance.send_command_and_wait("[[say again]]", 60) == (True, "again")
    async with ContainerManager() as manager:
        options = ContainerOptions(images.claude, "test-podman", network="none")
        done = await manager.run_command(options, ["sh", "-c", "echo out; echo err >&2; exit 3"])
        assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
        assert {item.name for item in await manager.list()} == {instance.container}
