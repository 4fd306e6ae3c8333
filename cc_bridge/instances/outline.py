"""What of a record says where paths are and what Claude Code is given, and the rules for it.

A program that takes Claude Code's place needs no more of a record, and reads it from its file: importing the whole
record takes longer than all else that it does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from ..errors import InvalidInput
from ..login import check_key, check_reachable, joined, with_login
from ..mounts import CONTAINER_HOME, mounted_at, split_mount
from ..state import make_private, state_root
from ..values import Value

if TYPE_CHECKING:
    from ..record import ClaudeInstance

    Outlined: TypeAlias = "ClaudeInstance | Outline"

__all__ = ["Outline", "container_env", "own_env", "path_inside", "workdir"]


def own_env(record: Outlined, own: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The record's variables, and the host's login where the record has none; a placeholder where its key is outside.

    Args:
        own: of one Claude Code of several.
        directory: the instance's.

    Raises:
        InvalidInput: its key cannot be outside.
    """
    env = {"DISABLE_AUTOUPDATER": "1", **with_login(joined(record.env, own))}
    if not record.key_is_outside:
        return env
    from .outside import with_placeholder

    return with_placeholder(record, env, own, directory)


def container_env(record: Outlined, own: Mapping[str, str], directory: Path) -> dict[str, str]:
    """As :func:`own_env`, if it can be of use in a container.

    Raises:
        InvalidInput: it cannot.
    """
    env = own_env(record, own, directory)
    if record.key_is_outside:
        pass  # it is asked from this machine
    elif not record.container and record.network != "host" and not record.network.startswith("container:"):
        check_reachable(env, record.name)
    if record.credentials:
        check_key(joined(record.env, own), record.name)
    if record.worktree and "GIT_CONFIG_COUNT" not in env:
        # It would rewrite what of the repository can only be read (`Worktree.mounts`).
        env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "gc.auto", "GIT_CONFIG_VALUE_0": "0"}
    return env


def path_inside(record: Outlined, path: str) -> str | None:
    """Where a path is in the record's container: in the workspace, the mounts or its home; None: it is not there.

    Of a container that is not ours the paths are its own.
    """
    if record.container:
        return path
    mounts = [(host, there) for host, there, _ in map(split_mount, record.mounts)]
    if record.workspace is not None:
        mounts.append((str(record.workspace.resolve()), record.mount_at))
    elif record.kind == "swarm":
        mounts.append((record.mount_at, record.mount_at))
    return mounted_at(path, [*mounts, (CONTAINER_HOME, CONTAINER_HOME)])


def workdir(record: Outlined) -> str:
    """Where the workspace is mounted in the record's container, else its home."""
    has_one = record.workspace is not None or record.container or record.kind == "swarm"
    return record.mount_at if has_one else CONTAINER_HOME


class Outline(Value):
    """The fields of a kept record that these rules need, as ``ClaudeInstance`` explains them.

    Attributes:
        program: Claude Code's, as the record names it.
        in_pane: the interactive Claude Code, in a terminal that a person may share.
        key_is_outside: Claude Code has a placeholder in the key's place.
        key_command, key_file: where the key is, then.
        directory: the instance's.
    """

    name: str
    kind: str
    workspace: Path | None
    mounts: tuple[str, ...]
    mount_at: str
    env: dict[str, str]
    network: str
    credentials: bool
    worktree: str
    container: str
    program: str
    in_pane: bool
    key_is_outside: bool
    key_command: str
    key_file: Path | None
    directory: Path

    @classmethod
    def load(cls, name: str) -> Self | None:
        """The outline of an instance's record; None: there is none that can be read. ``Registry.load`` tells why."""
        if "/" in name or name in ("", ".", ".."):
            return None
        root = _root()
        return cls._read(root / "instances" / name) if root else None

    @classmethod
    def all(cls) -> Iterator[Self]:
        """Those of all instances that can be read."""
        root = _root()
        if root is None:
            return
        try:
            names = sorted(os.listdir(root / "instances"))
        except FileNotFoundError:
            return
        for name in names:
            if not name.startswith(".") and (found := cls._read(root / "instances" / name)):
                yield found

    @classmethod
    def _read(cls, directory: Path) -> Self | None:
        try:
            return cls.of(json.loads((directory / "record.json").read_text()), directory)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    @classmethod
    def of(cls, data: dict[str, Any], directory: Path) -> Self:
        """The outline of a record in JSON types, which are checked by their use.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: they are no record.
        """
        workspace = data.get("workspace")
        return cls(
            data["name"],
            data["kind"],
            Path(workspace) if workspace else None,
            tuple(data.get("mounts", ())),
            data.get("mount_at", "/workspace"),
            dict(data.get("env", {})),
            data.get("network", "bridge"),
            bool(data.get("credentials")),
            data.get("worktree", ""),
            data.get("container", ""),
            data.get("claude", {}).get("program", "claude"),
            data["kind"] == "tmux" or bool(data.get("tmux")),
            bool(data.get("sealed")) or data.get("key") == "outside",
            data.get("key_command", ""),
            Path(data["key_file"]) if data.get("key_file") else None,
            directory,
        )

    @property
    def is_container(self) -> bool:
        """It is in a container, which sees only what is mounted in it."""
        return self.kind in ("docker", "swarm")

    def inside(self, path: str) -> str | None:
        """An absolute path of this machine as it is named there; None: it is not there."""
        return path_inside(self, path) if self.is_container else path

    def claude_env(self, own: Mapping[str, str]) -> dict[str, str]:
        """The variables of Claude Code's. Raises as :func:`container_env`."""
        rule = container_env if self.is_container else own_env
        return rule(self, own, self.directory)

    @classmethod
    def nearest(cls, directory: str) -> Self | None:
        """The instance whose workspace has this directory, the deepest of several; no pane. None: there is none.

        Raises:
            InvalidInput: two are equally near.
        """
        here, found = Path(directory).resolve(), list[tuple[int, Self]]()
        for outline in cls.all():
            workspace = outline.workspace.resolve() if outline.workspace and not outline.in_pane else None
            if workspace and here.is_relative_to(workspace):
                found.append((len(workspace.parts), outline))
        depth = max((depth for depth, _ in found), default=0)
        nearest = [outline for its, outline in found if its == depth]
        if len(nearest) > 1:
            what = f"several instances have {directory}: {', '.join(outline.name for outline in nearest)}"
            raise InvalidInput(what, hint="Name one: `--instance NAME`, or CC_BRIDGE_INSTANCE.")
        return nearest[0] if nearest else None


def _root() -> Path | None:
    root = state_root()
    if not root.exists():
        return None
    make_private(root)  # before anything in it is believed
    return root
