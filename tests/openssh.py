"""A server of openssh's on the loopback, with keys of a test's own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["is_there", "serve"]


def is_there() -> bool:
    """Whether it is installed."""
    return Path(_sshd()).exists() and shutil.which("ssh") is not None


@contextmanager
def serve(directory: Path) -> Iterator[tuple[str, Path]]:
    """Its address, and a directory with an `ssh` that has the key: to be the first on the search path."""
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)], check=True)
    shutil.copy(directory / "user.pub", directory / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    options = ["ListenAddress=127.0.0.1", f"HostKey={directory}/host", "UsePAM=no", "StrictModes=no"]
    options += [f"AuthorizedKeysFile={directory}/authorized", f"PidFile={directory}/pid", "PermitRootLogin=yes"]
    options += [f"SetEnv=HOME={directory}"]  # no profile of root's, which may take its time
    words = [word for option in options for word in ("-o", option)]
    (directory / "known").write_text(f"[127.0.0.1]:* {(directory / 'host.pub').read_text()}")
    (directory / "config").write_text(f"IdentityFile {directory}/user\nUserKnownHostsFile {directory}/known\n")
    (directory / "bin").mkdir()
    wrapper = directory / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {directory}/config "$@"\n')
    wrapper.chmod(0o755)
    server, port = _start([_sshd(), "-D", "-e", "-f", "/dev/null", *words])
    assert server.stderr is not None
    threading.Thread(target=server.stderr.read, daemon=True).start()
    try:
        yield f"ssh://root@127.0.0.1:{port}", wrapper.parent
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()


def _sshd() -> str:
    return shutil.which("sshd") or "/usr/sbin/sshd"


def _start(words: list[str]) -> tuple[subprocess.Popen[str], int]:
    """On a port that is free; it cannot choose one by itself, and another program may be quicker."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        server = subprocess.Popen([*words, "-o", f"Port={port}"], stderr=subprocess.PIPE, text=True)
        assert server.stderr is not None
        said = ""
        for line in server.stderr:
            said += line
            if "listening" in line:
                return server, port
        server.wait()
        assert "in use" in said, said
