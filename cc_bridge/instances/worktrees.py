"""Git worktrees: a branch in a directory of its own, for an instance to work in.

A container may have written what lies in a repository and in its worktrees: configuration, hooks, attributes, links.
The host runs nothing of it. Git gets a *view*: a scratch directory with a configuration of ours, in which objects and
refs are the repository's. Git's own commands for worktrees would read the repository's configuration, so a worktree is
made and removed here, in the layout of gitrepository-layout(5).
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ..beneath import create_file, make_directory, opened
from ..errors import InvalidInput
from .git_repository import (
    branches_below,
    check_directory,
    check_tree,
    content_of,
    find_repository,
    resolve,
    worktrees_of,
)
from .git_view import View, view_of

__all__ = ["Worktree", "add_worktree"]

#: Why git is not to prune it: in a container its directory has another name, and seems to be gone.
_LOCKED = b"an instance of cc-bridge's works here; `cc-bridge rm` removes it\n"

_BRANCH = "ref: refs/heads/"


@dataclass(frozen=True)
class Worktree:
    """A worktree of a repository.

    Attributes:
        repository: the directory that git keeps its objects in; the worktree is of no use without it.
    """

    path: Path
    branch: str
    repository: Path

    def is_merged(self) -> bool:
        """Whether the branch is merged into the repository's HEAD and the tree is clean.

        A submodule that was checked out, and what filters such as LFS's would change, count as changes.
        """
        if not self.path.is_dir():
            return False
        try:
            with view_of(self.repository) as view:
                tip, head = (resolve(self.repository, name) for name in (f"refs/heads/{self.branch}", "HEAD"))
                view.run("merge-base", "--is-ancestor", tip, head)
            return not self._changes()
        except (InvalidInput, OSError, ValueError):
            return False

    def remove(self, *, force: bool = False) -> None:
        """Remove the directory; the branch stays.

        Args:
            force: also where something was not committed.

        Raises:
            InvalidInput: something was not committed, or it cannot be removed.
        """
        try:
            if self.path.exists():
                if not force and (changes := self._changes()):
                    what = f"{self.path} has something that was not committed: {', '.join(changes[:3])}"
                    raise InvalidInput(what, hint="Commit it, or remove the worktree with --worktree --force.")
                shutil.rmtree(self.path)
            _forget(self)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"the worktree {self.path} cannot be removed: {error}") from error

    def mounts(self) -> list[tuple[Path, bool]]:
        """What of the repository a container needs, and whether it may only read it.

        To write: objects, refs and their logs, and what git keeps for this worktree. Configuration, hooks, attributes
        and the other worktrees can be read.

        Raises:
            InvalidInput: one of them is a link or missing, so that it is not known what a container would get.
        """
        name = self._name()
        if not name:
            raise InvalidInput(f"{self.repository} knows no worktree at {self.path}", hint="`cc-bridge rm` removes it.")
        with opened(self.repository) as common, suppress(FileExistsError):
            os.mkdir("logs", dir_fd=common)
        own = self.repository / "worktrees" / name
        writable = [self.repository / part for part in ("objects", "refs", "logs")] + [own]
        for part in (self.repository / "worktrees", *writable):
            check_directory(part)
        # Where it lies and what it belongs to is ours to say: another one's directory must not pass for this one's.
        said = [own / part for part in ("gitdir", "commondir", "locked") if (own / part).exists()]
        return [(self.repository, True), *((path, False) for path in writable), *((path, True) for path in said)]

    def _name(self) -> str:
        """What the repository calls it; empty: it does not know it."""
        return next((name for name, gitdir, _ in worktrees_of(self.repository) if gitdir == self.path / ".git"), "")

    def _changes(self) -> list[str]:
        """Paths with something that was not committed.

        Raises:
            InvalidInput: it cannot be told.
        """
        name = self._name()
        if not name:
            raise InvalidInput(f"{self.repository} knows no worktree at {self.path}")
        check_tree(self.path)
        with view_of(self.repository, name) as view:
            said = view.run("status", "--porcelain", "--ignore-submodules=all", tree=self.path)
            known = view.run("ls-files", "--stage", "-z", tree=self.path)
        modules = [entry.partition("\t")[2] for entry in known.split("\0") if entry.startswith("160000 ")]
        checked_out = [module for module in modules if any((self.path / module).glob("*"))]
        return [line[3:] for line in said.splitlines()] + checked_out


def add_worktree(workspace: Path, branch: str, root: Path) -> Worktree:
    """The worktree of a branch, made if there is none; the branch is made of HEAD if there is none.

    Args:
        workspace: in a git repository.
        root: the directory under which it gets a directory.

    Raises:
        InvalidInput: there is no repository, the branch cannot be, or it is checked out elsewhere.
    """
    common, head = find_repository(workspace)
    top = common.parent if common.name == ".git" else common
    path = root / re.sub(r"[^A-Za-z0-9._-]", "-", f"{top.name}-{branch}")
    made = Worktree(path, branch, common)
    try:
        with view_of(common) as view:
            if branch.startswith("-") or not view.succeeds("check-ref-format", f"refs/heads/{branch}"):
                raise InvalidInput(f"{branch!r} is not a name for a branch")
            _check_free(made)
            if path.exists():
                return made
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(made, view, head)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"a worktree of {common} cannot be made: {error}") from error
    return made


def _check_free(wanted: Worktree) -> None:
    """Raises InvalidInput where the place is taken, or the branch is checked out at another."""
    there = None
    for _, gitdir, head in worktrees_of(wanted.repository):
        if gitdir == wanted.path / ".git":
            there = head
        elif head == f"{_BRANCH}{wanted.branch}" and gitdir.exists():
            raise InvalidInput(f"the branch {wanted.branch} is checked out at {gitdir.parent} already")
    if wanted.path.exists() and there != f"{_BRANCH}{wanted.branch}":
        what = "the branch " + there.removeprefix(_BRANCH) if there else "something else"
        raise InvalidInput(f"{wanted.path} is there already, with {what}", hint=f"Remove {wanted.path}.")
    if wanted.repository.name == ".git" and content_of(wanted.repository, "HEAD") == f"{_BRANCH}{wanted.branch}":
        raise InvalidInput(f"the branch {wanted.branch} is checked out at {wanted.repository.parent} already")


def _make(wanted: Worktree, view: View, head: str) -> None:
    try:
        tip, known = resolve(wanted.repository, f"refs/heads/{wanted.branch}"), True
    except FileNotFoundError:
        tip, known = resolve(wanted.repository, head), False
    _forget(wanted)  # what is left of one whose directory was removed by hand
    wanted.path.mkdir()
    name = ""
    try:
        view.run("read-tree", "--reset", "-u", tip, tree=wanted.path)
        if not known:
            _make_branch(wanted, tip)
        with opened(wanted.repository) as common:
            make_directory(common, "worktrees", 0o755)
            with opened("worktrees", common) as worktrees:
                name = _new_name(worktrees, wanted.path.name)
                with opened(name, worktrees) as own:
                    create_file(own, "HEAD", f"{_BRANCH}{wanted.branch}\n".encode(), 0o644)
                    create_file(own, "commondir", b"../..\n", 0o644)
                    create_file(own, "gitdir", f"{wanted.path}/.git\n".encode(), 0o644)
                    create_file(own, "locked", _LOCKED, 0o644)
                    create_file(own, "index", (view.directory / "index").read_bytes(), 0o644)
        (wanted.path / ".git").write_text(f"gitdir: {wanted.repository}/worktrees/{name}\n")
    except BaseException:  # whatever it was is raised again: half a worktree must not stay
        shutil.rmtree(wanted.path, ignore_errors=True)
        if name:
            shutil.rmtree(wanted.repository / "worktrees" / name, ignore_errors=True)
        raise


def _new_name(worktrees: int, wanted: str) -> str:
    for number in range(1000):
        name = f"{wanted}{number or ''}"
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=worktrees)
            return name
    raise OSError("too many worktrees of one name")


def _make_branch(wanted: Worktree, tip: str) -> None:
    """Create a branch, by hand: git would follow a link on the way.

    Raises:
        InvalidInput, OSError: it cannot be made.
    """
    branch = wanted.branch
    if branches_below(wanted.repository, branch):
        raise InvalidInput(f"there are branches below {branch}/, so that {branch} cannot be one")
    parts = ["refs", "heads", *branch.split("/")]
    with ExitStack() as open_ones, opened(wanted.repository) as parent:
        for directory in parts[:-1]:
            with suppress(FileExistsError):
                os.mkdir(directory, 0o755, dir_fd=parent)
            parent = open_ones.enter_context(opened(directory, parent))
        with suppress(OSError):
            os.rmdir(parts[-1], dir_fd=parent)  # what is left of branches below it
        create_file(parent, parts[-1], f"{tip}\n".encode(), 0o644)


def _forget(tree: Worktree) -> None:
    """Remove what the repository keeps of a worktree, the branch apart."""
    for name, gitdir, _ in list(worktrees_of(tree.repository)):
        if gitdir == tree.path / ".git":
            with opened(tree.repository) as common, opened("worktrees", common) as worktrees:
                shutil.rmtree(name, dir_fd=worktrees)
