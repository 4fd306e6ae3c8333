"""Git worktrees: a branch in a directory of its own, for an instance to work in, by the git command."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidInput

__all__ = ["Worktree", "add_worktree"]

#: Seconds for a git command; a large tree takes its time to be written.
_LIMIT = 300.0


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
        """All of its branch is in the repository's own branch, and nothing lies about that was not committed."""
        if not self.path.is_dir() or _git(self.path, "status", "--porcelain").strip():
            return False
        top = self.repository.parent if self.repository.name == ".git" else self.repository
        try:
            _git(top, "merge-base", "--is-ancestor", f"refs/heads/{self.branch}", "HEAD")
        except InvalidInput:
            return False
        return True

    def remove(self, *, force: bool = False) -> None:
        """Remove the directory; the branch stays.

        Args:
            force: also where something was not committed.

        Raises:
            InvalidInput: git refuses; says why.
        """
        if self.path.exists():
            _git(self.repository, "worktree", "remove", *(["--force"] if force else []), str(self.path))
        _git(self.repository, "worktree", "prune")


def add_worktree(workspace: Path, branch: str, root: Path) -> Worktree:
    """The worktree of a branch, made if there is none; the branch is made of HEAD if there is none.

    Args:
        workspace: in a git repository.
        root: the directory under which it gets a directory.

    Raises:
        InvalidInput: there is no repository, the branch cannot be, or it is checked out elsewhere.
    """
    common = Path(_git(workspace, "rev-parse", "--path-format=absolute", "--git-common-dir").strip())
    _git(workspace, "check-ref-format", "--branch", branch)
    top = common.parent if common.name == ".git" else common
    path = root / re.sub(r"[^A-Za-z0-9._-]", "-", f"{top.name}-{branch}")
    made = Worktree(path, branch, common)
    if path.exists():
        there = _git(path, "rev-parse", "--abbrev-ref", "HEAD").strip()
        if there != branch:
            raise InvalidInput(f"{path} is there already, with the branch {there}", hint=f"git worktree remove {path}")
        return made
    root.mkdir(parents=True, exist_ok=True)
    known = _git(workspace, "branch", "--list", "--format=%(refname:short)", branch).strip() == branch
    _git(workspace, "worktree", "add", *([str(path), branch] if known else ["-b", branch, str(path)]))
    return made


def _git(directory: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words],
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise InvalidInput("a worktree needs git, and there is none here", hint="Install git.") from None
    except subprocess.TimeoutExpired:
        raise InvalidInput(f"git {words[0]} did not end within {_LIMIT:g} s") from None
    if done.returncode:
        said = done.stderr.strip().removeprefix("fatal: ").removeprefix("error: ")
        raise InvalidInput(f"git {words[0]} in {directory}: {said or f'exit code {done.returncode}'}")
    return done.stdout
