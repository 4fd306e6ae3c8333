"""A git repository that a container may have written, read by hand: no link is followed, and git is not run."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..beneath import opened, read_file
from ..errors import InvalidInput

__all__ = [
    "LARGEST",
    "branches_below",
    "check_directory",
    "check_tree",
    "content_of",
    "find_repository",
    "resolve",
    "worktrees_of",
]

#: Files in a tree that git reads as it goes; one that is no file could make it wait for ever.
_READ_BY_GIT = (".gitignore", ".gitattributes", ".gitmodules")

#: How many refs may name each other.
_MOST_NAMES = 5

#: Bytes of an index, of what is hidden of the history, and of the names that are not to be listed.
LARGEST = 256 * 1024 * 1024

_OBJECT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")


def find_repository(workspace: Path) -> tuple[Path, str]:
    """The directory in which git keeps the objects of the repository that a directory is in, and the name of its HEAD.

    Raises:
        InvalidInput: there is none, or what stands there could lead to another one.
    """
    place = workspace.resolve()
    for directory in (place, *place.parents):
        found = directory / ".git"
        try:
            kind = found.lstat().st_mode
        except OSError:
            if (directory / "HEAD").is_file() and (directory / "objects").is_dir():
                return _checked(directory), "HEAD"  # a bare one
            continue
        if stat.S_ISDIR(kind):
            return _checked(found), "HEAD"
        if stat.S_ISREG(kind):
            return _repository_of(found)
        raise InvalidInput(f"{found} is a link: it could lead to any repository", hint="Name the repository itself.")
    raise InvalidInput(f"{workspace} is not in a git repository", hint="--worktree needs one.")


def _repository_of(file: Path) -> tuple[Path, str]:
    """The repository of a worktree, and the name of the worktree's HEAD.

    The repository has to know the worktree, by a file in a directory of its own: else whoever wrote this file, and
    what it names, could name any repository.
    """
    gitdir = file.parent / content_of(file.parent, file.name).removeprefix("gitdir:").strip()
    common = gitdir.parent.parent
    if gitdir.parent.name == "worktrees":
        _checked(common)
        for name, place, _ in worktrees_of(common):
            if name == gitdir.name and place == file:
                return common, f"worktrees/{name}/HEAD"
    raise InvalidInput(
        f"{file} names {gitdir}, which knows no worktree there", hint="Worktrees are made of repositories only."
    )


def _checked(common: Path) -> Path:
    """The same, where nothing in it leads to another repository."""
    for part in ("", "objects", "refs"):
        check_directory(common / part)
    if os.path.lexists(common / "objects" / "info" / "alternates"):
        what = f"{common} borrows objects of other repositories"
        raise InvalidInput(what, hint="`git repack -a -d` copies them; then remove .git/objects/info/alternates.")
    if (common / "reftable").exists():
        raise InvalidInput(f"{common} keeps its refs in tables, which cannot be read here")
    return common


def check_tree(tree: Path) -> None:
    """Refuse a tree in which git would wait, or read elsewhere."""
    for directory, _, names in os.walk(tree):
        for name in set(names) & set(_READ_BY_GIT):
            if not stat.S_ISREG(os.lstat(os.path.join(directory, name)).st_mode):
                raise InvalidInput(f"{os.path.join(directory, name)} is not a file")


def resolve(common: Path, name: str) -> str:
    """The id of the commit that a ref, or HEAD, names.

    Raises:
        FileNotFoundError: there is none.
        InvalidInput: what stands there is no ref.
    """
    with opened(common) as root:
        for _ in range(_MOST_NAMES):
            try:
                content = _decoded(read_file(root, name.split("/"), 4096)).strip()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                content = _packed(root, name)
            if _OBJECT.match(content):
                return content
            if not content.startswith("ref: refs/"):
                break
            name = content.removeprefix("ref: ")
            if ".." in name.split("/"):
                break
    raise InvalidInput(f"{common}: {name} names no commit")


def _packed(root: int, name: str) -> str:
    with suppress(FileNotFoundError):
        for line in os.fsdecode(read_file(root, ["packed-refs"], LARGEST)).splitlines():
            if line.endswith(f" {name}"):
                return line.partition(" ")[0]
    raise FileNotFoundError(name)


def branches_below(common: Path, branch: str) -> bool:
    """Whether there are branches whose names begin with this one's and a slash."""
    with opened(common) as root:
        packed = ""
        with suppress(FileNotFoundError):
            packed = os.fsdecode(read_file(root, ["packed-refs"], LARGEST))
        if f" refs/heads/{branch}/" in packed:
            return True
    place = common.joinpath("refs", "heads", *branch.split("/"))
    return any(names for _, _, names in os.walk(place))


def check_directory(path: Path) -> None:
    """Refuse what is no directory, such as a link to one.

    Raises:
        InvalidInput: says why.
    """
    try:
        with opened(path):
            pass
    except OSError as error:
        raise InvalidInput(f"{path} cannot be used: {error.strerror}", hint="It has to be a directory.") from None


def worktrees_of(common: Path) -> Iterator[tuple[str, Path, str]]:
    """Name, path of its ``.git`` and HEAD of each worktree that a repository knows."""
    with suppress(FileNotFoundError), opened(common) as root, opened("worktrees", root) as worktrees:
        for name in sorted(os.listdir(worktrees)):
            with suppress(OSError, ValueError):
                gitdir, head = (_decoded(read_file(worktrees, [name, part])) for part in ("gitdir", "HEAD"))
                yield name, Path(gitdir), head


def content_of(directory: Path, name: str) -> str:
    """The content of a small file, without the newline at its end."""
    with opened(directory) as parent:
        return _decoded(read_file(parent, [name], 4096))


def _decoded(content: bytes) -> str:
    return os.fsdecode(content).strip("\n")
