"""The proxy as a process: a real agent, real requests, and real kills. covers: B5"""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ApiLimits, ClaudeInstance, InvalidInput
from cc_bridge.errors import AgentUnavailable, BridgeError
from cc_bridge.instances.registry import Registry, agent_archive
from cc_bridge.instances.way_out import ask_proxy, attend_blocking, placeholder, proxy_socket
from cc_bridge.proxy.journal import Journal

KEY = "the-real-key"
CC_BRIDGE = str(Path(sys.executable).parent / "cc-bridge")


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # who connects while it is full may be reset


class Upstream:
    """An API that says which key it was asked with."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        keys = self.keys

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                keys.append(self.headers["x-api-key"])
                body = json.dumps({"type": "message", "usage": {"input_tokens": 3, "output_tokens": 4}}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Setting:
    """A state directory with one instance, whose agent runs and has a way out."""

    def __init__(self, root: Path, upstream: Upstream, workspace: Path, name: str = "guest") -> None:
        self.root, self.upstream, self.name = root, upstream, name
        self.registry = Registry(root)
        self.home = self.registry.home(self.name)
        self.home.prepare()
        self.home.save(ClaudeInstance(name=self.name, kind="local", key="outside", workspace=workspace))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.agent = self.start_agent()

    def start_agent(self) -> subprocess.Popen[bytes]:
        heard, said = os.pipe()
        argv = [sys.executable, "-IS", str(agent_archive(self.root)), "serve", "--pipes", str(self.home.pipes)]
        argv += ["--socket", self.home.socket, "--state", str(self.home.journal), "--ready-fd", str(said)]
        argv += ["--egress", str(self.port)]
        agent = subprocess.Popen(argv, pass_fds=[said], stderr=subprocess.DEVNULL)
        os.close(said)
        assert os.read(heard, 100)
        os.close(heard)
        return agent

    @property
    def source(self) -> dict[str, Any]:
        return {"variables": {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": self.upstream.url}}

    def attend(self) -> None:
        attend_blocking(self.root, self.name, self.source)

    def status(self) -> dict[str, Any] | None:
        answer = ask_proxy(self.root, {"status": True})
        return answer["status"] if answer else None

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def request(self, key: str = "", connection: http.client.HTTPConnection | None = None) -> tuple[int, str]:
        used = connection or self.connect()
        headers = {
            "x-api-key": key or "sk-ant-api03-" + placeholder(self.home.path),
            "content-type": "application/json",
        }
        used.request("POST", "/v1/messages", b"{}", {**headers, "anthropic-version": "2023-06-01"})
        answer = used.getresponse()
        text = answer.read().decode()
        if connection is None:
            used.close()
        return answer.status, text

    def first_logged(self) -> dict[str, Any]:
        """The first request, as soon as it is in the log."""
        env = {**os.environ, "CC_BRIDGE_HOME": str(self.root)}
        words = [CC_BRIDGE, "network", self.name, "--follow", "--json"]
        with subprocess.Popen(words, env=env, stdout=subprocess.PIPE) as following:
            assert following.stdout is not None
            line = following.stdout.readline()
            following.send_signal(signal.SIGINT)
            assert following.wait() == 130
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        watchers = [(self.status() or {}).get("pid")]
        ask_proxy(self.root, {"stop": True})
        self.agent.kill()
        self.agent.wait()
        for pid in filter(None, watchers):
            wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    assert select.select([fd], [], [], 60)[0]
    os.close(fd)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    pytest.importorskip("h11")
    upstream = Upstream()
    made = Setting(tmp_path / "state", upstream, tmp_path)
    try:
        yield made
    finally:
        made.end()
        upstream.server.shutdown()
        upstream.server.server_close()


def test_a_request_gets_the_key_outside_and_is_logged(setting: Setting) -> None:
    setting.attend()
    assert setting.request()[0] == 200
    assert setting.upstream.keys == [KEY]
    assert setting.request(key="sk-ant-api03-guessed")[0] in (401, 403)
    assert setting.upstream.keys == [KEY]
    logged = setting.first_logged()
    assert (logged["path"], logged["status"], logged["output_tokens"]) == ("/v1/messages", 200, 4)
    on_disk = b"".join(file.read_bytes() for file in setting.root.rglob("*") if file.is_file())
    assert KEY.encode() not in on_disk


def test_programs_that_start_it_at_once_have_one(setting: Setting) -> None:
    with ThreadPoolExecutor(4) as programs:
        list(programs.map(lambda _: setting.attend(), range(4)))
    log = (setting.root / "proxy/log").read_text()
    assert log.count('"proxy_started"') == 1
    assert log.count('"attached"') == 1


def test_killed_it_attends_again_with_the_same_login(setting: Setting) -> None:
    setting.attend()
    first = setting.status()
    assert first
    os.kill(first["pid"], signal.SIGKILL)
    assert setting.request()[0] == 200  # which waits for the next one
    assert setting.upstream.keys == [KEY]
    second = setting.status()
    assert second
    assert second["pid"] != first["pid"]


def test_a_supervisor_that_is_killed_has_a_successor(setting: Setting) -> None:
    setting.attend()
    first = setting.status()
    assert first
    watcher = parent_of(first["pid"])
    os.kill(watcher, signal.SIGKILL)
    wait_for_end(watcher)
    assert setting.request()[0] == 200
    os.kill(first["pid"], signal.SIGKILL)
    assert setting.request()[0] == 200


def test_a_new_agent_is_attended_without_being_asked(setting: Setting) -> None:
    setting.attend()
    setting.agent.kill()
    setting.agent.wait()
    setting.agent = setting.start_agent()
    assert setting.request()[0] == 200


def test_stopped_it_has_forgotten_and_starts_anew(setting: Setting) -> None:
    setting.attend()
    first = setting.status()
    assert first
    ask_proxy(setting.root, {"stop": True})
    wait_for_end(first["pid"])
    setting.attend()
    assert setting.request()[0] == 200


@pytest.mark.thorough  # it waits ten seconds for another one
def test_it_ends_with_the_last_instance(setting: Setting) -> None:
    setting.attend()
    first = setting.status()
    assert first
    ask_proxy(setting.root, {"leave": setting.name})
    wait_for_end(first["pid"])
    assert setting.status() is None
    assert not proxy_socket(setting.root).exists()


@pytest.mark.thorough  # a hundred processes
def test_a_hundred_instances(tmp_path: Path) -> None:
    """Three connections of each are open at once, which takes more descriptors than a process usually gets."""
    upstream = Upstream()
    with ExitStack() as stack, ThreadPoolExecutor(16) as threads:
        stack.callback(upstream.server.server_close)
        stack.callback(upstream.server.shutdown)

        def make(number: int) -> Setting:
            made = Setting(tmp_path / "state", upstream, tmp_path, f"guest-{number}")
            stack.callback(made.end)
            return made

        settings = list(threads.map(make, range(100)))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        try:
            settings[0].attend()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        list(threads.map(Setting.attend, settings))
        ways = [(setting, stack.enter_context(closing(setting.connect()))) for setting in settings * 3]
        for _ in range(3):
            assert {status for status, _ in threads.map(lambda way: way[0].request(connection=way[1]), ways)} == {200}
        assert len(upstream.keys) == 900
        assert set(upstream.keys) == {KEY}
        status = settings[0].status()
        assert status
        assert [item["streams"] for item in status["instances"]] == [3] * 100
        assert [item["requests"] for item in status["instances"]] == [9] * 100
        assert len(os.listdir(f"/proc/{status['pid']}/fd")) < 100 * 2 + 300 * 2 + 100
        size = int(Path(f"/proc/{status['pid']}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert size < 150 << 20


def test_one_whose_socket_was_removed_gives_way(setting: Setting) -> None:
    setting.attend()
    before = setting.status()
    proxy_socket(setting.root).unlink()
    setting.attend()
    after = setting.status()
    assert (before or {})["pid"] != (after or {})["pid"]
    assert setting.request()[0] == 200


def test_hostile_names_are_refused(setting: Setting) -> None:
    names: list[Any] = ["../guest", "", "A", 7, "nobody"]
    for name in names:
        with pytest.raises(BridgeError, match=r"no name|no instance"):
            attend_blocking(setting.root, name, setting.source)


def test_what_another_user_has_put_there_is_not_used(setting: Setting) -> None:
    if os.geteuid() != 0:
        pytest.skip("root can give files away")
    path = proxy_socket(setting.root)
    (setting.root / "proxy").mkdir(mode=0o700, exist_ok=True)
    lock = setting.root / "proxy" / "lock"
    lock.touch()
    os.chown(lock, 12345, 12345)
    with pytest.raises(AgentUnavailable, match="belongs to user 12345"):
        setting.attend()
    lock.unlink()
    os.chown(path.parent, 12345, 12345)
    with pytest.raises(InvalidInput, match="belongs to user 12345"):
        setting.attend()
    os.chown(path.parent, 0, 0)


def test_another_users_process_is_told_nothing(setting: Setting) -> None:
    if os.geteuid() != 0:
        pytest.skip("root can be another user")
    setting.attend()
    path = proxy_socket(setting.root)
    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        Path(open_to_all).chmod(0o755)
        way_in = Path(open_to_all, "socket")
        way_in.hardlink_to(path)  # its own directory is closed again by whoever uses it
        path.chmod(0o666)
        try:
            os.seteuid(12345)
            connection.connect(str(way_in))
        finally:
            os.seteuid(0)
        assert connection.recv(100) == b""
    assert '"refused_user"' in (setting.root / "proxy/log").read_text()


def test_what_a_person_sees(setting: Setting) -> None:
    setting.attend()
    setting.request()
    assert setting.first_logged()["method"] == "POST"
    hostile = {"instance": "guest", "method": "GET", "host": "\x1b]0;x\x07", "path": "/\u202e", "refused": "no"}
    Journal(setting.root / "proxy/network/guest").write(hostile)
    env = {**os.environ, "CC_BRIDGE_HOME": str(setting.root)}

    def run(*words: str) -> str:
        done = subprocess.run([CC_BRIDGE, *words], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    status = run("proxy", "status")
    assert "guest" in status
    assert "attached" in status
    assert "ANTHROPIC_API_KEY" in status
    assert KEY not in status
    shown = run("network", "guest")
    assert "POST" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert [item["method"] for item in json.loads(run("network", "guest", "--json", "--tail", "1"))] == ["GET"]
    assert "proxy started" in run("proxy", "logs")
    run("proxy", "stop")
    assert "no proxy runs" in run("proxy", "status")
    missing = subprocess.run([CC_BRIDGE, "network", "nobody"], env=env, capture_output=True)
    assert missing.returncode == 2


def test_what_is_changed_holds_for_connections_that_are_open(setting: Setting, tmp_path: Path) -> None:
    """And the command that prints the key is run once for all who connect. covers: B22"""
    variables = {"ANTHROPIC_BASE_URL": setting.upstream.url}
    source = {"command": f"echo >> {tmp_path}/ran; echo sk-ant-printed", "variables": variables}
    attend_blocking(setting.root, setting.name, source)
    connection = setting.connect()
    assert setting.request(connection=connection)[0] == 200
    setting.registry.update(setting.name, api_limits=ApiLimits(tokens_per_day=7))
    attend_blocking(setting.root, setting.name, source)
    assert setting.request(connection=connection)[0] == 402
    setting.registry.update(setting.name, api_limits=ApiLimits())
    setting.attend()
    assert setting.request(connection=connection)[0] == 200
    connection.close()
    assert setting.upstream.keys == ["sk-ant-printed", KEY]
    assert (tmp_path / "ran").read_text() == "\n"
