"""Where this installation keeps its state, and what tells its containers from those of another."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path

from .errors import InvalidInput
from .values import Value

__all__ = [
    "MARKER",
    "Installation",
    "agent_archive",
    "make_private",
    "mark_instance",
    "runtime_directory",
    "shared_runtime_directory",
    "state_root",
    "unusable",
    "write_whole",
]

#: Links that may lead to the state directory, one after the other.
_MOST_LINKS = 10

#: Longest path of a directory in which sockets lie: a socket's path may have 107 bytes (unix(7)), and names in it have
#: up to 27.
_LONGEST_RUNTIME = 80


def state_root() -> Path:
    """The directory in which everything of cc-bridge's is kept on this machine."""
    if chosen := os.environ.get("CC_BRIDGE_HOME"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "cc-bridge"


class Installation(Value):
    """What tells the containers of one state directory from those of another on the same engine.

    Version 0.1.0 took a hash of the directory's path, which two machines with the same home share. What it made goes on
    under the id that it has: the verbs find it by the instance or project that is kept here, and nothing that cleans up
    by itself touches it.

    Attributes:
        id: random, made with the directory.
        earlier: the hash of the path, where 0.1.0 has used the directory; else empty.
        projects: those that 0.1.0 had.
    """

    root: Path
    id: str
    earlier: str = ""
    projects: frozenset[str] = frozenset()

    @classmethod
    def at(cls, root: Path | None = None) -> Installation:
        """The installation whose state is kept here; made on first use.

        Raises:
            InvalidInput: the directory cannot be used, or is not this user's alone.
        """
        root = root or state_root()
        path = root / "installation.json"
        make_private(root)
        try:
            if not path.exists():
                _establish(root, path)
            kept = json.loads(path.read_text())
            return cls(root, str(kept["id"]), str(kept["earlier"]), frozenset(map(str, kept["projects"])))
        except OSError as error:
            raise unusable(root, error) from error
        except (ValueError, KeyError, TypeError):
            hint = "Restore it: without it, this installation's containers cannot be told from others."
            raise InvalidInput(f"{path} is damaged", hint=hint) from None

    def id_for(self, instance: str) -> str:
        """The id that this instance's container has."""
        return self.earlier if self._is_of_0_1_0(instance) else self.id

    def owns(self, install: str, *, instance: str = "", project: str = "") -> bool:
        """Whether a container, network or volume with these labels was made by this installation."""
        if install == self.id:
            return True
        if not self.earlier or install != self.earlier:
            return False
        return self._is_of_0_1_0(instance) if instance else project in self.projects

    def _is_of_0_1_0(self, instance: str) -> bool:
        """Whether 0.1.0 has made it, be it beside us: it marks nothing."""
        home = self.root / "instances" / instance
        return bool(self.earlier) and (home / "record.json").exists() and not (home / MARKER).exists()


#: A file in the directory of an instance that was not made by 0.1.0.
MARKER = "installation"


def mark_instance(home: Path) -> None:
    """Note, before an instance's record is written for the first time, that it is not one of 0.1.0's."""
    if not (home / "record.json").exists():
        (home / MARKER).touch()


def _establish(root: Path, path: Path) -> None:
    """Make the installation's id; of two programs that do so at once, both get the one that was first."""
    projects = sorted(directory.name for directory in (root / "projects").glob("*"))
    used = bool(projects) or any((root / "instances").glob("*/record.json"))
    import hashlib

    earlier = hashlib.sha256(str(root).encode()).hexdigest()[:8] if used else ""
    content = json.dumps({"id": os.urandom(4).hex(), "earlier": earlier, "projects": projects})
    import tempfile

    fd, scratch = tempfile.mkstemp(dir=root, prefix="installation.")  # 0600
    try:
        with os.fdopen(fd, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # an empty one would be worse than none
        os.link(scratch, path)
    except FileExistsError:
        pass  # somebody was first
    finally:
        os.unlink(scratch)


def runtime_directory(root: Path) -> Path:
    """The directory for the sockets of what runs: this user's alone, and the same for every program of this user's.

    In the state directory, unless its path is too long for a socket's. Not made; see :func:`make_private`.
    """
    return root / "run" if len(os.fsencode(root / "run")) <= _LONGEST_RUNTIME else shared_runtime_directory()


def shared_runtime_directory() -> Path:
    """The same for a state directory with a long path, and where 0.1.0 has its sockets."""
    return Path(f"/tmp/cc-bridge-{os.geteuid()}")  # make_private refuses it where somebody else was first


def agent_archive(root: Path | None = None) -> Path:
    """The agent as one executable file, made from the installed package and kept by its content.

    Raises:
        InvalidInput: the state directory cannot be used.
    """
    import hashlib
    import tempfile
    import zipapp

    import cc_bridge_agent

    source = Path(cc_bridge_agent.__file__).parent
    files = {str(file.relative_to(source)): file.read_bytes() for file in sorted(source.rglob("*.py"))}
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in files.items())).hexdigest()[:16]
    root = root or state_root()
    target = root / f"agent-{digest}.pyz"
    make_private(root)
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            package = Path(scratch, "tree", "cc_bridge_agent")
            for name, content in files.items():
                (package / name).parent.mkdir(parents=True, exist_ok=True)
                (package / name).write_bytes(content)
            made = Path(scratch, target.name)
            zipapp.create_archive(package.parent, made, main="cc_bridge_agent.__main__:run")
            made.chmod(0o644)  # any user in a container may read it
            made.rename(target)  # whole or not at all, whoever else makes it just now
    return target


def make_private(path: Path) -> None:
    """Create a directory if it is missing, and make sure that it is this user's alone: owner, mode, and the way to it.

    Raises:
        InvalidInput: it cannot be made, or somebody else was first, or could put something else in its place.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_way(path.absolute())
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid():
                raise _of_another(path, found.st_uid)
            if stat.S_IMODE(found.st_mode) != 0o700:
                os.fchmod(fd, 0o700)
        finally:
            os.close(fd)
    except OSError as error:
        raise unusable(path, error) from error


def _check_way(path: Path, links: int = 0) -> None:
    """Make sure that each step to a path is this user's or root's, links included, and cannot be changed by others."""
    for step in (*reversed(path.parents[:-1]), path):  # whose the root is, in a namespace, nobody can tell
        found = os.lstat(step)
        if found.st_uid not in (0, os.geteuid()):
            raise _of_another(step, found.st_uid)
        if stat.S_ISLNK(found.st_mode) and links < _MOST_LINKS:
            _check_way(step.parent / os.readlink(step), links + 1)
        elif stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise InvalidInput(f"{step} can be written by anybody", hint="Set CC_BRIDGE_HOME to a directory of yours.")


def _of_another(path: Path, user: int) -> InvalidInput:
    what = f"{path} belongs to user {user}, not to this one"
    return InvalidInput(what, hint="Remove it, or set CC_BRIDGE_HOME to a directory of yours.")


def unusable(path: Path, error: OSError) -> InvalidInput:
    """The error for a state directory that cannot be used."""
    hint = "Set CC_BRIDGE_HOME to a directory of yours."
    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return InvalidInput(f"the state directory {path} cannot be used: {what}", hint=hint)


def write_whole(path: Path, data: bytes, *, new: bool = False, lasting: bool = False) -> None:
    """Write a file whole or not at all, for this user alone.

    Args:
        new: there must be none.
        lasting: it is on the disk when this returns, also if the machine ends then.

    Raises:
        FileExistsError: there is one.
        OSError: it cannot be written; what was there is as it was.
    """
    import tempfile  # only here: it loads a good deal, which each command would pay for

    fd, scratch = tempfile.mkstemp(dir=path.parent)  # 0600
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        (os.link if new else os.replace)(scratch, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
