"""Images: there already, pulled, or, for the default one, built on first use."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import EngineError, ImageNotFound
from .client import Engine

__all__ = ["DEFAULT_IMAGE", "Images", "Progress", "dockerfile"]

#: The name that stands for the default image; its real tag has the hash of what it is made from.
DEFAULT_IMAGE = "cc-bridge"

#: Seconds for a pull or a build.
_LONG = 3600.0

#: Called with a line of progress, from a worker thread.
Progress = Callable[[str], None]


def dockerfile() -> Path:
    """The Dockerfile of the default image: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "images" / "Dockerfile"
    return installed if installed.exists() else package.parent / "docker" / "Dockerfile"


class Images:
    """The engine's images.

    Raises, from every method:
        EngineError: of the kind that fits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def exists(self, name: str) -> bool:
        """Whether the engine has it."""
        client = await self._engine.client()
        try:
            await self._engine.call(client.images.get, name)
        except ImageNotFound:
            return False
        return True

    async def ensure(self, name: str, agent: Path, progress: Progress | None = None) -> str:
        """Have the image, and return its real name: what is not there is pulled, the default image built.

        Args:
            agent: the agent's archive, which goes into the default image.

        Raises:
            ImageNotFound: it is not there and cannot be pulled; says why.
        """
        if name == DEFAULT_IMAGE:
            return await self.build_default(agent, progress)
        if not await self.exists(name):
            await self.pull(name, progress)
        return name

    async def pull(self, name: str, progress: Progress | None = None) -> None:
        """Pull an image.

        Raises:
            ImageNotFound: it cannot be had; says why.
        """
        client = await self._engine.client()
        repository, tag = _split_tag(name)
        if progress:
            progress(f"pulling {name}")
        try:
            await self._engine.call(
                lambda: _follow(client.api.pull(repository, tag=tag, stream=True, decode=True), progress), limit=_LONG
            )
        except ImageNotFound as error:
            raise ImageNotFound(f"the image {name} is not here and there is none to pull: {error.what}") from error
        except EngineError as error:
            raise ImageNotFound(f"the image {name} is not here and cannot be pulled: {error.what}") from error

    async def build_default(self, agent: Path, progress: Progress | None = None) -> str:
        """Build the default image if nothing like it is there; its name.

        ``CC_BRIDGE_BASE_IMAGE`` names another base, ``CC_BRIDGE_BUILD_NETWORK`` the network to build in.
        """
        name = self.default_name(agent)
        if not await self.exists(name):
            await self.build(dockerfile(), name, _arguments(), {"agent.pyz": agent.read_bytes()}, progress)
        return name

    def default_name(self, agent: Path) -> str:
        """The default image's name; it changes with what the image is made from."""
        made_from = dockerfile().read_bytes() + agent.name.encode() + repr(sorted(_arguments().items())).encode()
        return f"{DEFAULT_IMAGE}:{hashlib.sha256(made_from).hexdigest()[:12]}"

    async def build(
        self,
        file: Path,
        name: str,
        arguments: Mapping[str, str],
        context: Mapping[str, bytes],
        progress: Progress | None = None,
    ) -> None:
        """Build an image.

        Args:
            context: what the Dockerfile may copy, by name.

        Raises:
            EngineError: a step failed; its last lines are quoted.
        """
        client = await self._engine.client()
        tarred = _tar({"Dockerfile": file.read_bytes(), **context})
        network = os.environ.get("CC_BRIDGE_BUILD_NETWORK") or None
        if progress:
            progress(f"building {name} (the first time only)")

        def act() -> None:
            steps = client.api.build(
                fileobj=io.BytesIO(tarred),
                custom_context=True,
                decode=True,
                tag=name,
                rm=True,
                forcerm=True,
                buildargs=dict(arguments),
                labels={"cc-bridge.type": "image"},
                network_mode=network,
            )
            _follow(steps, progress)

        await self._engine.call(act, limit=_LONG)


def _follow(steps: Iterable[Mapping[str, Any]], progress: Progress | None) -> None:
    """Read a pull's or a build's messages to the end."""
    last: list[str] = []
    for step in steps:
        if "error" in step:
            context = "\n".join(last[-8:])
            raise EngineError(f"{str(step['error']).strip()}" + (f"; the last lines:\n{context}" if context else ""))
        for line in _lines(step):
            last = [*last[-20:], line]
            if progress:
                progress(line)


def _lines(step: Mapping[str, Any]) -> Iterator[str]:
    if "stream" in step:
        lines = (line.rstrip() for line in str(step["stream"]).splitlines())
        yield from (line for line in lines if line and not line.startswith((" --->", "Removing intermediate")))
    elif "status" in step and "progress" not in step:
        yield " ".join(str(step[key]) for key in ("id", "status") if step.get(key))


def _split_tag(name: str) -> tuple[str, str | None]:
    """Repository and tag; a digest stays with the repository, and a port is no tag."""
    if "@" in name:
        return name, None
    head, separator, tag = name.rpartition(":")
    return (head, tag) if separator and "/" not in tag else (name, "latest")


def _arguments() -> dict[str, str]:
    base = os.environ.get("CC_BRIDGE_BASE_IMAGE", "")
    return {"BASE_IMAGE": base} if base else {}


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
