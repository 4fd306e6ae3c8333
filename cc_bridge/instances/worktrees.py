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
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..beneath import create_file, make_directory, opened, read_file
from ..errors import InvalidInput

__all__ = ["Worktree", "add_worktree"]

#: Seconds for a git command that writes a tree, which takes its time if it is large; and for one that reads.
_LIMIT = 300.0
_READ_LIMIT = 60.0

#: Files in a tree that git reads as it goes; one that is no file could make it wait for ever.
_READ_BY_GIT = (".gitignore", ".gitattributes", ".gitmodules")

#: How many refs may name each other.
_MOST_NAMES = 5

#: Bytes of an index, of what is hidden of the history, and of the names that are not to be listed.
_LARGEST = 256 * 1024 * 1024

#: Why git is not to prune it: in a container its directory has another name, and seems to be gone.
_LOCKED = b"an instance of cc-bridge's works here; `cc-bridge rm` removes it\n"

_BRANCH = "ref: refs/heads/"
_OBJECT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")


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
            with _view(self.repository) as view:
                tip, head = (_resolve(self.repository, name) for name in (f"refs/heads/{self.branch}", "HEAD"))
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
            _check_directory(part)
        # Where it lies and what it belongs to is ours to say: another one's directory must not pass for this one's.
        said = [own / part for part in ("gitdir", "commondir", "locked") if (own / part).exists()]
        return [(self.repository, True), *((path, False) for path in writable), *((path, True) for path in said)]

    def _name(self) -> str:
        """What the repository calls it; empty: it does not know it."""
        return next((name for name, gitdir, _ in _worktrees(self.repository) if gitdir == self.path / ".git"), "")

    def _changes(self) -> list[str]:
        """Paths with something that was not committed.

        Raises:
            InvalidInput: it cannot be told.
        """
        name = self._name()
        if not name:
            raise InvalidInput(f"{self.repository} knows no worktree at {self.path}")
        _check_tree(self.path)
        with _view(self.repository, name) as view:
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
    common, head = _find_repository(workspace)
    top = common.parent if common.name == ".git" else common
    path = root / re.sub(r"[^A-Za-z0-9._-]", "-", f"{top.name}-{branch}")
    made = Worktree(path, branch, common)
    try:
        with _view(common) as view:
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
    for _, gitdir, head in _worktrees(wanted.repository):
        if gitdir == wanted.path / ".git":
            there = head
        elif head == f"{_BRANCH}{wanted.branch}" and gitdir.exists():
            raise InvalidInput(f"the branch {wanted.branch} is checked out at {gitdir.parent} already")
    if wanted.path.exists() and there != f"{_BRANCH}{wanted.branch}":
        what = "the branch " + there.removeprefix(_BRANCH) if there else "something else"
        raise InvalidInput(f"{wanted.path} is there already, with {what}", hint=f"Remove {wanted.path}.")
    if wanted.repository.name == ".git" and _line(wanted.repository, "HEAD") == f"{_BRANCH}{wanted.branch}":
        raise InvalidInput(f"the branch {wanted.branch} is checked out at {wanted.repository.parent} already")


def _make(wanted: Worktree, view: _View, head: str) -> None:
    try:
        tip, known = _resolve(wanted.repository, f"refs/heads/{wanted.branch}"), True
    except FileNotFoundError:
        tip, known = _resolve(wanted.repository, head), False
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
    except BaseException:
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


# The repository, read without believing it


def _find_repository(workspace: Path) -> tuple[Path, str]:
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
    gitdir = file.parent / _line(file.parent, file.name).removeprefix("gitdir:").strip()
    common = gitdir.parent.parent
    if gitdir.parent.name == "worktrees":
        _checked(common)
        for name, place, _ in _worktrees(common):
            if name == gitdir.name and place == file:
                return common, f"worktrees/{name}/HEAD"
    raise InvalidInput(
        f"{file} names {gitdir}, which knows no worktree there", hint="Worktrees are made of repositories only."
    )


def _checked(common: Path) -> Path:
    """The same, where nothing in it leads to another repository."""
    for part in ("", "objects", "refs"):
        _check_directory(common / part)
    if os.path.lexists(common / "objects" / "info" / "alternates"):
        what = f"{common} borrows objects of other repositories"
        raise InvalidInput(what, hint="`git repack -a -d` copies them; then remove .git/objects/info/alternates.")
    if (common / "reftable").exists():
        raise InvalidInput(f"{common} keeps its refs in tables, which cannot be read here")
    return common


def _check_tree(tree: Path) -> None:
    """Refuse a tree in which git would wait, or read elsewhere."""
    for directory, _, names in os.walk(tree):
        for name in set(names) & set(_READ_BY_GIT):
            if not stat.S_ISREG(os.lstat(os.path.join(directory, name)).st_mode):
                raise InvalidInput(f"{os.path.join(directory, name)} is not a file")


def _resolve(common: Path, name: str) -> str:
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
        for line in os.fsdecode(read_file(root, ["packed-refs"], _LARGEST)).splitlines():
            if line.endswith(f" {name}"):
                return line.partition(" ")[0]
    raise FileNotFoundError(name)


def _branches_below(common: Path, branch: str) -> bool:
    """Whether there are branches whose names begin with this one's and a slash."""
    with opened(common) as root:
        packed = ""
        with suppress(FileNotFoundError):
            packed = os.fsdecode(read_file(root, ["packed-refs"], _LARGEST))
        if f" refs/heads/{branch}/" in packed:
            return True
    place = common.joinpath("refs", "heads", *branch.split("/"))
    return any(names for _, _, names in os.walk(place))


def _make_branch(wanted: Worktree, tip: str) -> None:
    """Create a branch, by hand: git would follow a link on the way.

    Raises:
        InvalidInput, OSError: it cannot be made.
    """
    branch = wanted.branch
    if _branches_below(wanted.repository, branch):
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
    for name, gitdir, _ in list(_worktrees(tree.repository)):
        if gitdir == tree.path / ".git":
            with opened(tree.repository) as common, opened("worktrees", common) as worktrees:
                shutil.rmtree(name, dir_fd=worktrees)


def _check_directory(path: Path) -> None:
    try:
        with opened(path):
            pass
    except OSError as error:
        raise InvalidInput(f"{path} cannot be used: {error.strerror}", hint="It has to be a directory.") from None


def _worktrees(common: Path) -> Iterator[tuple[str, Path, str]]:
    """Name, path of its ``.git`` and HEAD of each worktree that a repository knows."""
    with suppress(FileNotFoundError), opened(common) as root, opened("worktrees", root) as worktrees:
        for name in sorted(os.listdir(worktrees)):
            with suppress(OSError, ValueError):
                gitdir, head = (_decoded(read_file(worktrees, [name, part])) for part in ("gitdir", "HEAD"))
                yield name, Path(gitdir), head


def _line(directory: Path, name: str) -> str:
    with opened(directory) as parent:
        return _decoded(read_file(parent, [name], 4096))


def _decoded(content: bytes) -> str:
    return os.fsdecode(content).strip("\n")


class _View:
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
def _view(common: Path, worktree: str = "") -> Iterator[_View]:
    """A repository's objects, with a configuration and refs of ours: only HEAD.

    Args:
        worktree: show its HEAD and its index, instead of the repository's HEAD.
    """
    with tempfile.TemporaryDirectory(prefix="cc-bridge-git-") as scratch, opened(common) as root:  # 0700
        directory = Path(scratch)
        own = ("worktrees", worktree) if worktree else ()
        with suppress(FileNotFoundError):  # a branch without a commit yet
            (directory / "HEAD").write_text(_resolve(common, "/".join((*own, "HEAD"))) + "\n")
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
                (directory / name).write_bytes(read_file(root, parts, _LARGEST))
        view = _View(directory, common)
        _configure(view, root)
        yield view


def _configure(view: _View, root: int) -> None:
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
