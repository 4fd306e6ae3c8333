"""Programs of a sealed container fetch by TLS from hosts that are allowed, and say why they do not from others."""

from __future__ import annotations

import http.server
import json
import shutil
import ssl
import subprocess
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import DockerContainer
from cc_bridge.proxy.journal import network_file, records
from tests.conftest import lacking

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

#: The container reaches the loopback without a proxy, and these servers have no other name everywhere.
_PROXIED = ["-e", "NO_PROXY=", "-e", "no_proxy="]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Site:
    """Two servers with the same files, of which one is allowed.

    Attributes:
        ca: whom the certificate is from.
        allowed, other: ``localhost:PORT``.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.files = folder / "files"
        self.files.mkdir()
        self.ca, key = folder / "ca.pem", folder / "key.pem"
        words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(["openssl", "req", *words, "-keyout", key, "-out", self.ca], check=True, capture_output=True)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.ca, key)
        self._servers = [self._serve(), self._serve()]
        self.allowed, self.other = (f"localhost:{server.server_port}" for server in self._servers)

    def _serve(self) -> http.server.ThreadingHTTPServer:
        handler = partial(_Quiet, directory=str(self.files))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def add_wheel(self) -> None:
        """A package ``small``, and an index that has it."""
        folder = self.files / "simple" / "small"
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / "small-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("small.py", "SAYS = 'small'\n")
            wheel.writestr("small-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1\n")
            wheel.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr("small-1.dist-info/RECORD", "")

    def add_repository(self) -> None:
        """A git repository with one commit, as files."""
        git = ["git", "-c", "user.name=n", "-c", "user.email=e@example", "-C", str(self.files)]
        for words in (
            ["init", "-q", "made"],
            ["-C", "made", "commit", "-q", "--allow-empty", "-m", "first"],
            ["clone", "-q", "--bare", "made", "made.git"],
            ["-C", "made.git", "update-server-info"],
        ):
            subprocess.run([*git, *words], check=True)

    def add_npm_package(self) -> None:
        """A package ``small`` in a registry, whose files are named as those of the allowed server."""
        package = self.files / "small.package" / "package"
        package.mkdir(parents=True)
        (package / "package.json").write_text(json.dumps({"name": "small", "version": "1.0.0"}))
        subprocess.run(["tar", "-czf", self.files / "small.tgz", "-C", package.parent, "package"], check=True)
        dist = {"tarball": f"https://{self.allowed}/small.tgz"}
        version = {"name": "small", "version": "1.0.0", "dist": dist}
        found = {"name": "small", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        (self.files / "small").write_text(json.dumps(found))

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "site")
    yield made
    made.close()


@pytest.fixture
async def sealed(root: Path, make_record: Any, images: Any, site: Site) -> AsyncIterator[Any]:
    made: list[DockerContainer] = []

    async def start(**fields: Any) -> DockerContainer:
        record = make_record(
            kind="docker",
            image=images.claude,
            sealed=True,
            allow_hosts=(f"{site.allowed}=127.0.0.1",),
            env={"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"},
            ephemeral=False,
            **fields,
        )
        made.append(DockerContainer(record))
        await made[-1].start()
        shutil.copy(site.ca, Path(record.workspace) / "ca.pem")
        (Path(record.workspace) / "ca.pem").chmod(0o644)
        return made[-1]

    yield start
    for instance in made:
        await instance.remove()
        await instance.cleanup()


def inside(instance: DockerContainer, *words: str) -> subprocess.CompletedProcess[str]:
    trusted = ["-e", "GIT_SSL_CAINFO=/workspace/ca.pem", "-e", "PIP_CERT=/workspace/ca.pem"]
    trusted += ["-e", "NODE_EXTRA_CA_CERTS=/workspace/ca.pem"]
    argv = ["docker", "exec", "-w", "/tmp", *_PROXIED, *trusted, instance.container, *words]
    return subprocess.run(argv, capture_output=True, text=True)


def refused(root: Path, instance: DockerContainer) -> list[str]:
    """Why requests were refused, as `cc-bridge network` shows it."""
    return [str(found["refused"]) for found in records(network_file(root, instance.name)) if found["refused"]]


async def test_pip_and_git(sealed: Any, site: Site, root: Path) -> None:
    """covers: B5, T6"""
    site.add_wheel()
    site.add_repository()
    instance = await sealed()
    why = f"{site.other} is not allowed: cc-bridge ... --allow-host {site.other}"

    pip = ["pip", "install", "--no-cache-dir", "--retries", "1", "--target", "/tmp/t", "small", "--index-url"]
    done = inside(instance, *pip, f"https://{site.allowed}/simple")
    assert "Successfully installed small-1" in done.stdout, done.stderr
    done = inside(instance, *pip, f"https://{site.other}/simple")
    assert done.returncode
    assert f"Tunnel connection failed: 403 {why}" in done.stderr
    assert refused(root, instance).count(why) == 2

    done = inside(instance, "git", "clone", f"https://{site.allowed}/made.git", "cloned")
    assert done.returncode == 0, done.stderr
    assert inside(instance, "git", "-C", "cloned", "log", "--format=%s").stdout == "first\n"
    done = inside(instance, "git", "clone", f"https://{site.other}/made.git", "other")
    assert done.returncode
    assert "CONNECT tunnel failed, response 403" in done.stderr  # and no word more
    assert refused(root, instance).count(why) == 3


@pytest.mark.thorough
async def test_npm(sealed: Any, site: Site, root: Path) -> None:
    """This machine's, because the image has none. covers: B5"""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        lacking("npm", "Node.js with npm is not installed")
    site.add_npm_package()
    modules = Path(npm).resolve().parents[2]
    instance = await sealed(mounts=(f"{Path(node).resolve()}:/opt/node:ro", f"{modules}:/opt/modules:ro"))
    words = ["/opt/node", "/opt/modules/npm/bin/npm-cli.js", "install", "--no-audit", "--no-fund"]
    words += ["--prefix", "/tmp/n", "--cache", "/tmp/c", "--fetch-retries", "0", "small"]
    done = inside(instance, *words, f"--registry=https://{site.allowed}/")
    assert "added 1 package" in done.stdout, done.stderr
    done = inside(instance, *words, f"--registry=https://{site.other}/")
    assert done.returncode
    assert f"403 {site.other} is not allowed: cc-bridge ... --allow-host {site.other}" in done.stderr
