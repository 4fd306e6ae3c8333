"""Where this installation keeps its state, and what tells its containers from those of another."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipapp
from pathlib import Path

from .errors import InvalidInput

__all__ = ["agent_archive", "installation", "make_private", "state_root", "unusable"]


def state_root() -> Path:
    """The directory in which everything of cc-bridge's is kept on this machine."""
    if chosen := os.environ.get("CC_BRIDGE_HOME"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "cc-bridge"


def installation(root: Path | None = None) -> str:
    """What tells the containers of one state directory from those of another.

    Two installations may use one engine, and the same names: neither may touch the other's containers.
    """
    return hashlib.sha256(str(root or state_root()).encode()).hexdigest()[:8]


def agent_archive(root: Path | None = None) -> Path:
    """The agent as one executable file, made from the installed package and kept by its content.

    Raises:
        InvalidInput: the state directory cannot be used.
    """
    import cc_bridge_agent

    source = Path(cc_bridge_agent.__file__).parent
    files = {str(file.relative_to(source)): file.read_bytes() for file in sorted(source.rglob("*.py"))}
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in files.items())).hexdigest()[:16]
    root = root or state_root()
    target = root / f"agent-{digest}.pyz"
    if not target.exists():
        make_private(root)
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
    """Have a directory that is this user's alone.

    Raises:
        InvalidInput: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> InvalidInput:
    """The error for a state directory that cannot be used."""
    hint = "Set CC_BRIDGE_HOME to a directory of yours."
    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return InvalidInput(f"the state directory {path} cannot be used: {what}", hint=hint)
