"""Whose is a workspace's Dockerfile? It is built as root and with network, so a container must not have written it.

The one that is there before a container of ours, or a local Claude Code, may write to the workspace is the user's. What
appears or changes afterwards may be the model's, and is built only when somebody has looked at it; also what a worktree
has of a repository that a container could commit to. What is remembered is a digest, in the state directory; what is
built is the text that was looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import DockerfileNotApproved, InvalidInput
from .state import make_private

__all__ = ["Dockerfile", "Dockerfiles", "OnDockerfile"]

#: Bytes of a Dockerfile.
_LARGEST = 1024 * 1024

#: Asked about a Dockerfile that may not be the user's, with its path and its text; whether it is to be built.
OnDockerfile = Callable[[Path, str], Awaitable[bool]]


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile that may be built. ``text`` is what was looked at; the file may have changed since."""

    path: Path
    text: str

    @property
    def digest(self) -> str:
        """What tells this text from another."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        """The file as it is now.

        Raises:
            InvalidInput: it cannot be read, or is no Dockerfile.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise InvalidInput(f"{path} is not a file")
                content = file.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise InvalidInput(f"{path} is not a Dockerfile: it has more than {_LARGEST} bytes")
            return cls(path, content.decode())
        except UnicodeDecodeError:
            raise InvalidInput(f"{path} is not a Dockerfile: it is not UTF-8 text") from None
        except OSError as error:
            raise InvalidInput(f"{error.filename or path} cannot be read: {error.strerror}") from error


class Dockerfiles:
    """What is known of the Dockerfiles of workspaces.

    Args:
        root: the state directory.
    """

    def __init__(self, root: Path) -> None:
        self._directory = root / "dockerfiles"

    async def of(
        self, workspace: Path, ask: OnDockerfile | None = None, *, repository: Path | None = None
    ) -> Dockerfile | None:
        """The workspace's Dockerfile, if it is the user's or was approved; None: there is none.

        Args:
            repository: the workspace is a worktree of it.

        Raises:
            DockerfileNotApproved: it may have been written by a container, and nobody has said yes.
            InvalidInput: it cannot be read.
        """
        path = workspace / "Dockerfile"
        if not os.path.lexists(path):
            return None
        found = Dockerfile.read(path)
        if not self._is_trusted(workspace, found, repository):
            if ask is None or not await ask(path, found.text):
                raise DockerfileNotApproved(path, found.text)
            self.approve(workspace, found)
        return found

    async def named(self, path: Path, remembered: Path, ask: OnDockerfile | None = None) -> Dockerfile:
        """A Dockerfile that was named, which is a yes to what was in it then.

        Args:
            remembered: a file of the host's that keeps the digest of what was built.

        Raises:
            DockerfileNotApproved: something else is in it now, and nobody has said yes to that.
        """
        found = Dockerfile.read(path)
        before = remembered.read_text() if remembered.exists() else found.digest
        if before != found.digest and (ask is None or not await ask(path, found.text)):
            raise DockerfileNotApproved(path, found.text)
        remembered.write_text(found.digest)
        return found

    def approve(self, workspace: Path, found: Dockerfile) -> None:
        """Somebody has looked at this text, and wants it to be built."""
        self._keep(workspace, found.digest)

    def note_writable(self, directories: Iterable[Path], *, repository: Path | None = None) -> None:
        """Note, before a container may write to directories, which Dockerfiles they have. Harmless when repeated.

        Args:
            repository: they are worktrees of it, and it will be written to, too.
        """
        directories = list(directories)
        for directory in directories:
            if self._kept(directory) is not None:
                continue
            digest = ""
            if os.path.lexists(directory / "Dockerfile") and not self._may_be_written(directory, repository):
                try:
                    digest = Dockerfile.read(directory / "Dockerfile").digest
                except InvalidInput:
                    digest = ""  # as if there were none: whatever comes is looked at
            self._keep(directory, digest)
        if repository is not None and self._kept(repository) is None:
            self._keep(repository, "")

    def could_be_written(self, path: Path) -> bool:
        """Whether an instance could write this file, or what it is a link to, by what is known of workspaces."""
        places = [path.resolve(), *path.resolve().parents, *path.absolute().parents, *path.parent.resolve().parents]
        return any(self._kept(place) is not None for place in [*places, path.parent.resolve()])

    def _is_trusted(self, workspace: Path, found: Dockerfile, repository: Path | None) -> bool:
        kept = self._kept(workspace)
        return not self._may_be_written(workspace, repository) if kept is None else kept == found.digest

    def _may_be_written(self, directory: Path, repository: Path | None) -> bool:
        """Whether a container could write a directory's Dockerfile: the file, what it is a link to, or where they lie.

        Also what it comes from: the repository.
        """
        file = (directory / "Dockerfile").resolve()
        above = [file, *file.parents, *directory.resolve().parents]
        if repository is not None:
            above += [repository.resolve(), *repository.resolve().parents]
        return any(self._kept(place) is not None for place in above)

    def _kept(self, directory: Path) -> str | None:
        """The digest of the directory's approved Dockerfile, empty: of none; None: no container could write to it."""
        try:
            return str(json.loads(self._path(directory).read_text())["dockerfile"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _keep(self, directory: Path, digest: str) -> None:
        make_private(self._directory)
        import tempfile

        fd, scratch = tempfile.mkstemp(dir=self._directory)
        with os.fdopen(fd, "w") as file:
            file.write(json.dumps({"directory": str(directory.resolve()), "dockerfile": digest}))
        os.rename(scratch, self._path(directory))

    def _path(self, directory: Path) -> Path:
        name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:32]
        return self._directory / f"{name}.json"
