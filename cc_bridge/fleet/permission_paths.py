"""Paths that a permission rule covers, by gitignore's patterns as Claude Code has them; and where they really lead."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..engine.container_spec import CONTAINER_HOME
from ..mounts import split_mount
from ..record import ClaudeInstance

__all__ = ["LONGEST_PATH", "Place", "Target"]

#: PATH_MAX (limits.h), and directories: each is compared with each rule.
LONGEST_PATH = 4096
_MOST_PARTS = 200


@dataclass(frozen=True)
class Place:
    """Where an instance's tools work.

    Attributes:
        workspace: the directory, as the tools see it.
        home: of the tools' user; empty: not known.
        real: follows all links of an absolute path; None: nobody can say where it leads.
    """

    workspace: str
    home: str
    real: Callable[[str], str | None]

    @classmethod
    def of(cls, record: ClaudeInstance, *, engine_is_here: bool = False) -> Place:
        """That of an instance.

        Args:
            engine_is_here: a container's workspace is this machine's directory. It is the only one in a container that
                can be looked at, and only where it has no links; of another engine's containers, nothing can.
        """
        if record.is_contained and not engine_is_here:
            return cls(record.mount_at, "" if record.container else CONTAINER_HOME, lambda path: None)
        if record.kind == "docker":
            home = "" if record.container else CONTAINER_HOME
            return cls(record.mount_at, home, lambda path: _in_container(record, path))
        home = record.env.get("HOME") or os.path.expanduser("~")
        return cls(str(record.workspace), home, _here)


def _here(path: str) -> str | None:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return None


def _in_container(record: ClaudeInstance, path: str) -> str | None:
    """The same path, if nothing in it can lead elsewhere. A link would be followed in the container, and not here."""
    if record.workspace is None or ".." in path.split("/"):
        return None
    # `//` and `/./` are the kernel's, and must not hide from us what is mounted there.
    path, workspace = _plain(path), _plain(record.mount_at)
    others = [_plain(split_mount(mount)[1]) for mount in record.mounts]
    if not _beneath(workspace, path):
        return None
    if any(_beneath(other, path) and _beneath(workspace, other) for other in others):
        return None
    parts = path.removeprefix(workspace.rstrip("/") + "/").split("/")
    here = Path(record.workspace)
    try:
        for part in parts if path != workspace else ():
            here /= part
            if stat.S_ISLNK(os.lstat(here).st_mode):
                return None
    except FileNotFoundError:
        pass  # nor is there anything beneath it
    except (OSError, ValueError):
        return None
    return path


def _plain(path: str) -> str:
    """Without `//`, `/./` and `..`; two slashes at the beginning are one, here as in the kernel."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _beneath(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


class Target:
    """A path that a tool was given, and where it leads.

    Args:
        path: as it was given.
    """

    def __init__(self, path: str, place: Place) -> None:
        self._place = place
        self._path = path
        self._usable = len(path) <= LONGEST_PATH and path.count("/") <= _MOST_PARTS
        self._whole = posixpath.join(place.workspace, place.home + path[1:] if _is_at_home(path) else path)
        self._real = place.real(path if path.startswith("/") else self._whole) if self._usable else None
        self._real_workspace = place.real(place.workspace)
        self._real_home = (place.real(place.home) if place.home else None) or ""

    def is_covered_by(self, pattern: str, *, tree: bool = False) -> bool:
        """Whether a rule's pattern covers the path and what it leads to, so that it can be allowed.

        ``//…`` is absolute, ``~/…`` the home, ``/…`` and ``./…`` the workspace; a pattern without a slash holds in any
        directory of the workspace. What covers a directory covers all that is in it.

        Args:
            tree: everything beneath the path, too, for a search.
        """
        if self._real is None or self._real_workspace is None or not self._path.startswith("/"):
            return False  # what it is relative to, only Claude Code knows
        seen = _matches(pattern, self._path, self._place.workspace, self._place.home, tree=tree)
        return seen and _matches(pattern, self._real, self._real_workspace, self._real_home, tree=tree)

    def may_be_covered_by(self, pattern: str) -> bool | None:
        """Whether it covers the path or what it leads to, for a rule that forbids; ``/etc`` is the machine's, too.

        None: nobody can say. That a path beneath some directory is not covered, nobody can say either: which directory
        that is, only Claude Code knows.
        """
        if not self._usable or (not self._place.home and "~" in (pattern[:1], self._path[:1])):
            return None
        for one in (pattern, f"/{pattern}") if pattern.startswith("/") else (pattern,):
            if _matches(one, self._whole, self._place.workspace, self._place.home):
                return True
            workspace = self._real_workspace or self._place.workspace
            if self._real is not None and _matches(one, self._real, workspace, self._real_home):
                return True
        is_known = self._real is not None and (self._path.startswith("/") or _is_at_home(self._path))
        return False if is_known else None


def _is_at_home(path: str) -> bool:
    return path == "~" or path.startswith("~/")


def _matches(pattern: str, path: str, workspace: str, home: str, *, tree: bool = False) -> bool:
    base, rest = _anchored(pattern, workspace, home)
    parts = posixpath.normpath(path).strip("/").split("/")
    above = [part for part in posixpath.normpath(base).strip("/").split("/") if part]
    if not base or parts[: len(above)] != above:
        return False
    wanted, found = [part for part in rest.split("/") if part not in ("", ".")], parts[len(above) :]
    if not wanted:
        return True
    if tree and wanted[-1] in ("*", "**"):
        found = [*found, "\0"]  # stands for any name
    return _match_parts(wanted, found)


def _anchored(pattern: str, workspace: str, home: str) -> tuple[str, str]:
    if pattern.startswith("//"):
        return "/", pattern[2:]
    if _is_at_home(pattern):
        return home, pattern[2:]
    if pattern.startswith(("/", "./")):
        return workspace, pattern.removeprefix(".")[1:]
    anywhere = "/" not in pattern.rstrip("/")
    return workspace, f"**/{pattern}" if anywhere and pattern != "." else pattern


def _match_parts(wanted: list[str], found: list[str]) -> bool:
    """Whether the wanted parts are the found ones, or those of a directory above. All ways at once: no backtracking."""
    last = len(wanted) - 1

    def skipping(ways: set[int]) -> set[int]:
        for way in sorted(ways):
            while way < last and wanted[way] == "**":  # no directory at all
                way += 1
                ways.add(way)
        return ways

    ways = skipping({0})
    for part in found:
        following = set()
        for way in ways:
            if wanted[way] == "**":
                following.add(way)
            elif _compiled(wanted[way]).match(part):
                following.add(way + 1)
            else:
                continue
            if way == last:
                return True
        ways = skipping(following)
    return False


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))
