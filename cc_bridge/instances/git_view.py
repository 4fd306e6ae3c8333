"""A git repository as git is shown it: its objects, with a configuration and refs of ours."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..beneath import opened, read_file
from ..errors import InvalidInput
from .git_repository import LARGEST, resolve

__all__ = ["View", "view_of"]

#: Seconds for a git command that writes a tree, which takes its time if it is large; and for one that reads.
_LIMIT = 300.0
_READ_LIMIT = 60.0


class View:
    """A repository as git is shown it."""

    def __init__(self, directory: Path, common: Path) -> None:
        self.directory = directory
        self._common = common

    def run(self, *words: str, tree: Path | None = None) -> str:
        """What git says.

        Args:
            tree: the worktree; its index is the view's own.

        Raises:
            InvalidInput: it fails; says why.
        """
        done = self._run(words, tree)
        if done.returncode:
            said = done.stderr.strip().removeprefix("fatal: ").removeprefix("error: ")
            raise InvalidInput(f"git {words[0]} in {self._common}: {said or f'exit code {done.returncode}'}")
        return done.stdout

    def succeeds(self, *words: str) -> bool:
        """Whether git's exit code is 0."""
        return self._run(words, None).returncode == 0

    def _run(self, words: tuple[str, ...], tree: Path | None) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        env |= {
            "LC_ALL": "C",
            "GIT_DIR": str(self.directory),
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,  # filters and the like of the user's own, on a container's files
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "none",
        }
        limit = _LIMIT if words[0] == "read-tree" else _READ_LIMIT
        if tree is not None:
            env |= {"GIT_WORK_TREE": str(tree), "GIT_INDEX_FILE": str(self.directory / "index")}
        try:
            return subprocess.run(
                ["git", *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=limit,
                check=False,
                cwd=self.directory if tree is None else tree,
                env=env,
            )
        except FileNotFoundError:
            raise InvalidInput("a worktree needs git, and there is none here", hint="Install git.") from None
        except subprocess.TimeoutExpired:
            raise InvalidInput(f"git {words[0]} did not end within {limit:g} s") from None


@contextmanager
def view_of(common: Path, worktree: str = "") -> Iterator[View]:
    """A repository's objects, with a configuration and refs of ours: only HEAD.

    Args:
        worktree: show its HEAD and its index, instead of the repository's HEAD.
    """
    with tempfile.TemporaryDirectory(prefix="cc-bridge-git-") as scratch, opened(common) as root:  # 0700
        directory = Path(scratch)
        own = ("worktrees", worktree) if worktree else ()
        with suppress(FileNotFoundError):  # a branch without a commit yet
            (directory / "HEAD").write_text(resolve(common, "/".join((*own, "HEAD"))) + "\n")
        if not (directory / "HEAD").exists():
            (directory / "HEAD").write_text("ref: refs/heads/none\n")
        (directory / "refs").mkdir()
        (directory / "objects").symlink_to(common / "objects")
        (directory / "info").mkdir()
        copied = [(("info", "exclude"), "info/exclude"), (("shallow",), "shallow")]
        if worktree:
            with opened("worktrees", root) as worktrees, opened(worktree, worktrees) as kept:
                names = [name for name in os.listdir(kept) if name == "index" or name.startswith("sharedindex.")]
            copied += [((*own, name), name) for name in names]
        for parts, name in copied:
            with suppress(FileNotFoundError):
                (directory / name).write_bytes(read_file(root, parts, LARGEST))
        view = View(directory, common)
        _configure(view, root)
        yield view


def _configure(view: View, root: int) -> None:
    """Our own configuration, with the one thing of the repository's without which its objects cannot be read."""
    theirs = view.directory / "theirs"
    with suppress(FileNotFoundError):
        theirs.write_bytes(read_file(root, ["config"]))
    (view.directory / "config").write_text("[core]\nrepositoryformatversion = 0\n")
    # Names and values only: nothing of it is in force, and nothing that it includes is read.
    words = ("config", "--file", str(theirs), "--no-includes", "--get", "extensions.objectformat")
    if theirs.exists() and view.succeeds(*words) and view.run(*words).strip() == "sha256":
        config = "[core]\nrepositoryformatversion = 1\nbare = false\n[extensions]\nobjectformat = sha256\n"
    else:
        config = "[core]\nrepositoryformatversion = 0\nbare = false\n"
    (view.directory / "config").write_text(config)
