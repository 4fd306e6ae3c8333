"""The agent's own socket, and a neighbour's in its place. covers: T2"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cc_bridge.channels.unix_socket import UnixSocketChannel
from cc_bridge.errors import AgentUnavailable
from cc_bridge.instances.registry import Registry, agent_archive

pytestmark = pytest.mark.anyio

NEIGHBOUR = 1234

#: A neighbour who listens at a path, and says at its end how many bytes it was given.
LISTENER = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listening.listen()
print("ready", flush=True)
connection, _ = listening.accept()
print(len(connection.recv(65536)), flush=True)
"""


@pytest.fixture
def neighbour() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with tempfile.TemporaryDirectory(prefix="cc-bridge-public-") as place:  # a test's own directory is closed to others
        os.chmod(place, 0o1777)
        argv = [sys.executable, "-c", LISTENER, f"{place}/agent.sock", str(NEIGHBOUR)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield f"{place}/agent.sock", process
            process.kill()


@pytest.mark.usefixtures("as_root")
async def test_nothing_is_said_to_a_neighbour_who_listens_there(neighbour: tuple[str, subprocess.Popen[str]]) -> None:
    path, process = neighbour
    with pytest.raises(AgentUnavailable, match=f"user {NEIGHBOUR} listens"):
        await UnixSocketChannel.connect(path, b'{"hello":1}\n')
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n", "it was told something"


@pytest.mark.usefixtures("as_root")
def test_attach_in_a_container_says_nothing_to_a_neighbour(neighbour: tuple[str, subprocess.Popen[str]]) -> None:
    path, process = neighbour
    argv = [sys.executable, "-IS", str(agent_archive()), "attach", "--socket", path]
    done = subprocess.run(argv, input=b'{"hello":1}\n', capture_output=True, check=False)
    assert done.returncode == 3
    assert f"user {NEIGHBOUR} serves there".encode() in done.stderr
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n", "it was told something"


def test_an_instance_s_sockets_lie_where_nobody_else_comes(tmp_path: Path) -> None:
    home = Registry(tmp_path / "state").home("demo")
    home.prepare()
    for path in (home.socket, home.pane, home.tmux_socket):
        assert Path(path).is_relative_to(tmp_path / "state" / "run") or len(str(tmp_path)) > 70
    assert Path(home.socket).parent.stat().st_mode & 0o777 == 0o700
