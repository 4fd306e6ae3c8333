"""Git worktrees, and repositories in which a container has planted what it could. covers: G6, T1"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cc_bridge.errors import InvalidInput
from cc_bridge.instances.worktrees import Worktree, add_worktree


def git(directory: Path, *words: str) -> str:
    author = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *author, "-C", str(directory), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "shop"
    path.mkdir()
    git(path, "init", "-q")
    (path / "readme").write_text("hello\n")
    (path / "sub").mkdir()
    (path / "sub" / "file").write_text("in a directory\n")
    git(path, "add", ".")
    git(path, "commit", "-q", "-m", "first")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state" / "worktrees"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A program that leaves a trace, and the trace."""
    program, trace = tmp_path / "evil", tmp_path / "it-ran"
    program.write_text(f"#!/bin/sh\necho $0 >>{trace}\ncat\n")
    program.chmod(0o755)
    return trace


def commit(tree: Path, name: str) -> None:
    (tree / name).write_text(name)
    git(tree, "add", name)
    git(tree, "commit", "-q", "-m", name)


# What a worktree is


def test_a_new_branch_begins_at_head_and_git_takes_it_for_its_own(repository: Path, root: Path) -> None:
    made = add_worktree(repository / "sub", "idea/one", root)
    assert (made.path / "sub" / "file").read_text() == "in a directory\n"
    assert git(made.path, "status", "--porcelain", "--branch") == "## idea/one"
    assert git(made.path, "rev-parse", "HEAD") == git(repository, "rev-parse", "HEAD")
    assert str(made.path) in git(repository, "worktree", "list")
    git(repository, "fsck")


def test_a_branch_that_is_there_is_checked_out(repository: Path, root: Path) -> None:
    git(repository, "checkout", "-q", "-b", "old")
    commit(repository, "more")
    git(repository, "checkout", "-q", "main")
    made = add_worktree(repository, "old", root)
    assert (made.path / "more").exists()


def test_a_packed_branch_and_a_packed_repository_are_found(repository: Path, root: Path) -> None:
    git(repository, "branch", "old")
    git(repository, "pack-refs", "--all")
    git(repository, "gc", "-q")
    made = add_worktree(repository, "old", root)
    commit(made.path, "more")
    assert not made.is_merged()


def test_the_same_one_is_found_again_and_others_are_not_taken(repository: Path, root: Path) -> None:
    made = add_worktree(repository, "one", root)
    commit(made.path, "more")
    assert add_worktree(repository, "one", root) == made
    assert (made.path / "more").exists()
    with pytest.raises(InvalidInput, match="the branch one is checked out"):
        add_worktree(repository, "one", root.with_name("elsewhere"))
    with pytest.raises(InvalidInput, match="the branch main is checked out"):
        add_worktree(repository, "main", root)
    (root / "shop-two").mkdir()
    with pytest.raises(InvalidInput, match="there already, with something else"):
        add_worktree(repository, "two", root)


def test_a_worktree_of_a_worktree_is_one_of_the_repository(repository: Path, root: Path) -> None:
    first = add_worktree(repository, "one", root)
    assert add_worktree(first.path, "two", root).repository == first.repository


def test_a_bare_repository(repository: Path, root: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    made = add_worktree(tmp_path / "bare.git", "idea", root)
    assert (made.path / "readme").exists()
    assert made.is_merged()


def test_a_repository_with_longer_names_of_objects(root: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256", "modern")
    commit(tmp_path / "modern", "file")
    assert (add_worktree(tmp_path / "modern", "idea", root).path / "file").exists()


@pytest.mark.parametrize("branch", ["-x", "a..b", "a b", "", "x/", "a.lock", "@{-1}", "../../x", "refs/../x"])
def test_what_is_no_name_of_a_branch(repository: Path, root: Path, branch: str) -> None:
    with pytest.raises(InvalidInput, match="not a name for a branch"):
        add_worktree(repository, branch, root)
    assert not root.exists()


def test_branches_that_would_stand_in_each_other_s_way(repository: Path, root: Path) -> None:
    add_worktree(repository, "a/b", root)
    with pytest.raises(InvalidInput, match="branches below a/"):
        add_worktree(repository, "a", root)
    with pytest.raises(InvalidInput):
        add_worktree(repository, "a/b/c", root)
    assert [path.name for path in root.iterdir()] == ["shop-a-b"], "something half made was left"


def test_where_there_is_no_repository_or_no_commit(tmp_path: Path, root: Path) -> None:
    with pytest.raises(InvalidInput, match="not in a git repository"):
        add_worktree(tmp_path, "one", root)
    git(tmp_path, "init", "-q", "empty")
    with pytest.raises(InvalidInput):
        add_worktree(tmp_path / "empty", "one", root)
    assert not list(root.glob("*"))


# When it may go


def test_it_is_merged_when_all_of_it_is_committed_and_in_head(repository: Path, root: Path) -> None:
    made = add_worktree(repository, "one", root)
    assert made.is_merged()
    (made.path / "new").write_text("new")
    assert not made.is_merged(), "a new file"
    git(made.path, "add", "new")
    assert not made.is_merged(), "a staged file"
    git(made.path, "commit", "-q", "-m", "new")
    assert not made.is_merged(), "a commit"
    git(repository, "merge", "-q", "one")
    assert made.is_merged()
    (made.path / "readme").write_text("changed")
    assert not made.is_merged(), "a changed file"


def test_what_the_repository_does_not_list_does_not_count(repository: Path, root: Path) -> None:
    (repository / ".git" / "info" / "exclude").write_text("*.log\n")
    made = add_worktree(repository, "one", root)
    (made.path / "a.log").write_text("noise")
    assert made.is_merged()


def test_work_in_a_submodule_is_not_removed_without_being_asked(repository: Path, root: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "library")
    commit(tmp_path / "library", "file")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "-q", "add", str(tmp_path / "library"), "library")
    git(repository, "commit", "-q", "-m", "library")
    made = add_worktree(repository, "one", root)
    assert made.is_merged(), "it was not checked out"
    git(made.path, "-c", "protocol.file.allow=always", "submodule", "-q", "update", "--init")
    (made.path / "library" / "new").write_text("mine")
    assert not made.is_merged()
    with pytest.raises(InvalidInput, match="not committed: library"):
        made.remove()


def test_one_whose_directory_was_removed_by_hand_is_made_anew(repository: Path, root: Path) -> None:
    made = add_worktree(repository, "one", root)
    shutil.rmtree(made.path)
    again = add_worktree(repository, "one", root)
    assert again.is_merged()
    assert [path.name for path in (repository / ".git" / "worktrees").iterdir()] == [again.path.name]
    assert repository / ".git" / "worktrees" / again.path.name in dict(again.mounts())


def test_a_new_branch_begins_where_the_user_s_own_worktree_is(repository: Path, root: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", "-b", "dev", str(tmp_path / "dev"))
    commit(tmp_path / "dev", "only-in-dev")
    assert (add_worktree(tmp_path / "dev", "feature", root).path / "only-in-dev").exists()


def test_a_split_index_is_read_whole(repository: Path, root: Path) -> None:
    made = add_worktree(repository, "one", root)
    git(made.path, "update-index", "--split-index")
    assert made.is_merged()


def test_a_branch_that_names_another_and_one_that_names_itself(repository: Path, root: Path) -> None:
    heads = repository / ".git" / "refs" / "heads"
    (heads / "alias").write_text("ref: refs/heads/main\n")
    assert (add_worktree(repository, "alias", root).path / "readme").exists()
    for name, content in (("loop", "ref: refs/heads/loop"), ("out", "ref: refs/../../x"), ("junk", "junk")):
        (heads / name).write_text(f"{content}\n")
        with pytest.raises(InvalidInput, match="names no commit"):
            add_worktree(repository, name, root)


def test_it_is_not_pruned_where_its_directory_has_another_name(repository: Path, root: Path) -> None:
    made = add_worktree(repository, "one", root)
    made.path.rename(root / "as-in-a-container")
    git(repository, "worktree", "prune")
    (root / "as-in-a-container").rename(made.path)
    assert made.is_merged()


def test_it_is_removed_with_what_git_keeps_of_it_and_the_branch_stays(repository: Path, root: Path) -> None:
    made, other = add_worktree(repository, "one", root), add_worktree(repository, "two", root)
    (made.path / "new").write_text("new")
    with pytest.raises(InvalidInput, match="not committed: new"):
        made.remove()
    made.remove(force=True)
    made.remove()
    assert not made.path.exists()
    assert str(made.path) not in git(repository, "worktree", "list")
    assert other.is_merged()
    assert "one" in git(repository, "branch", "--list", "one")
    assert add_worktree(repository, "one", root).is_merged()


# What a container may have planted

CONFIG = """
[core]
    fsmonitor = {evil}
    hooksPath = {hooks}
    pager = {evil}
    sshCommand = {evil}
    editor = {evil}
    alternateRefsCommand = {evil}
    worktree = {elsewhere}
[filter "x"]
    smudge = {evil}
    clean = {evil}
    process = {evil}
    required = true
[diff "x"]
    textconv = {evil}
    command = {evil}
[alias]
    status = !{evil}
    rev-parse = !{evil}
[extensions]
    partialClone = origin
    worktreeConfig = true
[remote "origin"]
    url = ext::{evil}
    promisor = true
[protocol "ext"]
    allow = always
[gpg]
    program = {evil}
[include]
    path = {included}
"""

HOOKS = (
    "post-checkout",
    "reference-transaction",
    "post-index-change",
    "fsmonitor-watchman",
    "pre-commit",
    "post-commit",
)


def plant(common: Path, canary: Path) -> None:
    """All that git would run, in a repository's configuration, hooks and attributes."""
    evil, hooks = canary.with_name("evil"), common / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in HOOKS:
        (hooks / name).unlink(missing_ok=True)
        (hooks / name).symlink_to(evil)
    included = common / "included"
    included.write_text(f"[core]\n\tfsmonitor = {evil}\n")
    with open(common / "config", "a") as file:
        file.write(CONFIG.format(evil=evil, hooks=hooks, included=included, elsewhere=canary.with_name("elsewhere")))
    (common / "info").mkdir(exist_ok=True)
    (common / "info" / "attributes").write_text("* filter=x diff=x\n")


@pytest.mark.parametrize("where", ["repository", "worktree"])
def test_nothing_that_a_container_wrote_is_run(
    repository: Path, root: Path, canary: Path, where: str, tmp_path: Path
) -> None:
    made = add_worktree(repository, "one", root)
    commit(made.path, "theirs")
    (made.path / ".gitattributes").write_text("* filter=x diff=x\n")
    git(made.path, "add", ".")
    git(made.path, "commit", "-q", "-m", "attributes")
    if where == "repository":
        plant(repository / ".git", canary)
    else:
        git(tmp_path, "init", "-q", "fake")
        plant(tmp_path / "fake" / ".git", canary)
        (made.path / ".git").write_text(f"gitdir: {tmp_path}/fake/.git\n")
        own = repository / ".git" / "worktrees" / made.path.name
        (own / "commondir").write_text(f"{tmp_path}/fake/.git\n")
        (own / "config.worktree").write_text(f"[core]\n\tfsmonitor = {tmp_path}/evil\n")
    (made.path / "theirs").write_text("changed")
    assert not made.is_merged()
    second = add_worktree(repository, "two", root)
    assert second.is_merged()
    third = add_worktree(repository, "three", root)
    (third.path / "new").write_text("x")
    with pytest.raises(InvalidInput, match="not committed"):
        third.remove()
    third.remove(force=True)
    second.remove()
    made.remove(force=True)
    assert not canary.exists(), canary.read_text()


def test_the_configuration_of_a_submodule_is_not_looked_at(
    repository: Path, root: Path, canary: Path, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q", "library")
    commit(tmp_path / "library", "file")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "-q", "add", str(tmp_path / "library"), "library")
    git(repository, "commit", "-q", "-m", "library")
    made = add_worktree(repository, "one", root)
    git(made.path, "-c", "protocol.file.allow=always", "submodule", "-q", "update", "--init")
    module = Path(git(made.path / "library", "rev-parse", "--absolute-git-dir"))
    plant(module, canary)
    (made.path / "library" / "file").write_text("changed")
    made.is_merged()
    made.remove(force=True)
    assert not canary.exists(), canary.read_text()


def test_objects_that_are_missing_are_fetched_from_nowhere(repository: Path, root: Path, canary: Path) -> None:
    made = add_worktree(repository, "one", root)
    plant(repository / ".git", canary)
    blob = git(repository, "-c", "core.fsmonitor=false", "rev-parse", "HEAD:readme")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    canary.unlink(missing_ok=True)  # the test's own git may have run something
    with pytest.raises(InvalidInput):
        add_worktree(repository, "two", root)
    made.is_merged()
    assert not canary.exists(), canary.read_text()
    assert [path.name for path in root.iterdir()] == [made.path.name]


def a_link_to_another_repository(repository: Path, other: Path) -> None:
    (repository / ".git").rename(repository / "moved")
    (repository / ".git").symlink_to(other / ".git")


def a_file_that_names_another_repository(repository: Path, other: Path) -> None:
    (repository / ".git").rename(repository / "moved")
    (repository / ".git").write_text(f"gitdir: {other}/.git\n")


def objects_of_another_repository(repository: Path, other: Path) -> None:
    (repository / ".git" / "objects").rename(repository / "moved")
    (repository / ".git" / "objects").symlink_to(other / ".git" / "objects")


def a_directory_that_says_it_belongs_to_another(repository: Path, other: Path) -> None:
    """All of it written by a container: where the worktree lies, and whose it is."""
    fake = repository / "fake"
    fake.mkdir()
    (repository / ".git").rename(repository / "moved")
    (repository / ".git").write_text(f"gitdir: {fake}\n")
    (fake / "gitdir").write_text(f"{repository}/.git\n")
    (fake / "commondir").write_text(f"{other}/.git\n")


def objects_borrowed_from_another_repository(repository: Path, other: Path) -> None:
    (repository / ".git" / "objects" / "info").mkdir(exist_ok=True)
    (repository / ".git" / "objects" / "info" / "alternates").write_text(f"{other}/.git/objects\n")


def a_branch_that_is_a_link_to_another_s(repository: Path, other: Path) -> None:
    main = repository / ".git" / "refs" / "heads" / "main"
    main.unlink()
    main.symlink_to(other / ".git" / "refs" / "heads" / "main")


@pytest.mark.parametrize(
    "planted",
    [
        a_link_to_another_repository,
        a_file_that_names_another_repository,
        a_directory_that_says_it_belongs_to_another,
        objects_of_another_repository,
        objects_borrowed_from_another_repository,
        a_branch_that_is_a_link_to_another_s,
    ],
)
def test_no_other_repository_is_taken_for_this_one(
    repository: Path, root: Path, tmp_path: Path, planted: Callable[[Path, Path], None]
) -> None:
    git(tmp_path, "init", "-q", "other")
    commit(tmp_path / "other", "secret")
    planted(repository, tmp_path / "other")
    with pytest.raises(InvalidInput):
        add_worktree(repository, "one", root)
    assert not list(root.glob("*"))
    assert not (tmp_path / "other" / ".git" / "worktrees").exists()


def test_a_pipe_in_place_of_a_file_that_git_reads_makes_nobody_wait(repository: Path, root: Path) -> None:
    made = add_worktree(repository, "one", root)
    os.mkfifo(made.path / "sub" / ".gitignore")
    assert not made.is_merged()
    with pytest.raises(InvalidInput, match="not a file"):
        made.remove()
    os.mkfifo(repository / ".git" / "refs" / "heads" / "pipe")
    with pytest.raises(InvalidInput, match="not a file"):
        add_worktree(repository, "pipe", root)
    made.remove(force=True)


def test_a_branch_is_not_made_over_a_link(repository: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    (repository / ".git" / "refs" / "heads" / "feature").symlink_to(tmp_path / "ssh")
    with pytest.raises(InvalidInput):
        add_worktree(repository, "feature/authorized_keys", root)
    assert not list((tmp_path / "ssh").iterdir())
    assert not list(root.glob("*"))


# What a container gets


def test_a_container_may_write_what_a_worktree_needs_and_read_the_rest(repository: Path, root: Path) -> None:
    made, other = add_worktree(repository, "one", root), add_worktree(repository, "two", root)
    common = repository / ".git"
    mounts = dict(made.mounts())
    assert mounts[common] is True
    writable = {str(path.relative_to(common)) for path, read_only in mounts.items() if not read_only}
    assert writable == {"objects", "refs", "logs", f"worktrees/{made.path.name}"}
    own = common / "worktrees" / made.path.name
    assert all(mounts[own / part] for part in ("gitdir", "commondir", "locked")), "another's could pass for this one"
    assert other.path.name not in str(writable)


@pytest.mark.parametrize("part", ["objects", "refs", "logs", "worktrees/shop-one"])
def test_a_link_in_place_of_what_it_may_write_is_refused(
    repository: Path, root: Path, part: str, tmp_path: Path
) -> None:
    made = add_worktree(repository, "one", root)
    made.mounts()
    target = repository / ".git" / part
    target.rename(tmp_path / "moved")
    target.symlink_to(tmp_path / "moved")
    with pytest.raises(InvalidInput):
        made.mounts()


def test_a_worktree_that_is_unknown_is_said(repository: Path, root: Path) -> None:
    lost = Worktree(root / "lost", "one", repository / ".git")
    assert not lost.is_merged()
    lost.remove()
    with pytest.raises(InvalidInput, match="knows no worktree"):
        lost.mounts()


def test_the_environment_of_a_hook_does_not_lead_astray(
    repository: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", "/")
    monkeypatch.setenv("GIT_INDEX_FILE", os.devnull)
    assert add_worktree(repository, "one", root).is_merged()
