"""Paths that a permission rule covers, by gitignore's patterns as Claude Code has them; and where they really lead."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..engine.container_spec import CONTAINER_HOME
from ..instance import ClaudeInstance
from ..mounts import split_mount

__all__ = ["LONGEST_PATH", "Place", "covers"]

#: PATH_MAX (limits.h).
LONGEST_PATH = 4096


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
    def of(cls, record: ClaudeInstance) -> Place:
        """That of an instance. In a container only the workspace can be looked at, and only where it has no links."""
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
    parts = path.removeprefix(record.mount_at.rstrip("/") + "/").split("/")
    others = [split_mount(mount)[1] for mount in record.mounts]
    if record.workspace is None or not _beneath(record.mount_at, path) or ".." in parts:
        return None
    if any(_beneath(other, path) and _beneath(record.mount_at, other) for other in others):
        return None
    here = Path(record.workspace)
    try:
        for part in parts if path != record.mount_at else ():
            here /= part
            if stat.S_ISLNK(os.lstat(here).st_mode):
                return None
    except FileNotFoundError:
        pass  # nor is there anything beneath it
    except (OSError, ValueError):
        return None
    return posixpath.normpath(path)


def _beneath(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def covers(pattern: str, path: str, place: Place, *, cautious: bool, tree: bool = False) -> bool | None:
    """Whether a rule's pattern covers a path. None: nobody can say.

    ``//…`` is absolute, ``~/…`` the home, ``/…`` and ``./…`` the workspace; a pattern without a slash holds in any
    directory of the workspace. What covers a directory covers all that is in it.

    Args:
        cautious: for a rule that forbids: the path, or where it leads, is covered; ``/etc`` is also the machine's.
            Otherwise both must be.
        tree: everything beneath the path, for a search.
    """
    if cautious:
        return _may_cover(pattern, path, place)
    if len(path) > LONGEST_PATH or not path.startswith("/"):  # relative to a directory that only Claude Code knows
        return False
    real, workspace = place.real(path), place.real(place.workspace)
    home = place.real(place.home) if place.home else None
    if real is None or workspace is None:
        return False
    seen = _matches(pattern, path, place.workspace, place.home, tree=tree)
    return seen and _matches(pattern, real, workspace, home or "", tree=tree)


def _may_cover(pattern: str, path: str, place: Place) -> bool | None:
    if len(path) > LONGEST_PATH or (_needs_home(pattern, path) and not place.home):
        return None
    if path == "~" or path.startswith("~/"):
        path = place.home + path[1:]
    whole = posixpath.join(place.workspace, path)
    real, workspace = place.real(whole), place.real(place.workspace)
    patterns = [pattern, f"/{pattern}"] if pattern.startswith("/") else [pattern]
    for one in patterns:
        if _matches(one, whole, place.workspace, place.home):
            return True
        if real is not None and _matches(one, real, workspace or place.workspace, place.home):
            return True
    return None if real is None else False


def _needs_home(pattern: str, path: str) -> bool:
    return pattern.startswith("~") or path.startswith("~")


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
    if pattern == "~" or pattern.startswith("~/"):
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
            elif fnmatchcase(part, wanted[way]):
                following.add(way + 1)
            else:
                continue
            if way == last:
                return True
        ways = skipping(following)
    return False
