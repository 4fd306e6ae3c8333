"""A Dockerfile that Claude Code may have written is built only when somebody has looked at it. covers: T1, G1"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cc_bridge.dockerfiles import Dockerfile, Dockerfiles
from cc_bridge.errors import DockerfileNotApproved, InvalidInput

pytestmark = pytest.mark.anyio

USERS, MODELS = "FROM users\n", "FROM models\n"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def known(tmp_path: Path) -> Dockerfiles:
    return Dockerfiles(tmp_path / "state")


async def yes(path: Path, text: str) -> bool:
    return True


async def no(path: Path, text: str) -> bool:
    return False


async def text_of(known: Dockerfiles, work: Path, **options: Path) -> str | None:
    found = await known.of(work, **options)
    return found.text if found else None


async def test_the_user_s_own_is_built(known: Dockerfiles, work: Path) -> None:
    assert await known.of(work) is None
    (work / "Dockerfile").write_text(USERS)
    assert await text_of(known, work) == USERS
    (work / "Dockerfile").write_text(USERS * 2)
    assert await text_of(known, work) == USERS * 2, "no container could write there, so this is the user's, too"


async def test_one_that_was_there_first_is_the_user_s_and_stays_so(known: Dockerfiles, work: Path) -> None:
    (work / "Dockerfile").write_text(USERS)
    known.note_writable([work])
    assert await text_of(known, work) == USERS
    (work / "Dockerfile").write_text(MODELS)
    known.note_writable([work])
    with pytest.raises(DockerfileNotApproved) as caught:
        await known.of(work)
    assert (caught.value.path, caught.value.text) == (work / "Dockerfile", MODELS)
    assert "--dockerfile" in str(caught.value)
    (work / "Dockerfile").write_text(USERS)
    assert await text_of(known, work) == USERS


async def test_one_that_appears_later_is_looked_at(known: Dockerfiles, work: Path) -> None:
    known.note_writable([work])
    assert await known.of(work) is None
    (work / "Dockerfile").write_text(MODELS)
    with pytest.raises(DockerfileNotApproved):
        await known.of(work)


async def test_a_yes_is_for_this_text(known: Dockerfiles, work: Path) -> None:
    known.note_writable([work])
    (work / "Dockerfile").write_text(MODELS)
    with pytest.raises(DockerfileNotApproved):
        await known.of(work, no)
    assert await known.of(work, yes) == Dockerfile(work / "Dockerfile", MODELS)
    assert await text_of(known, work) == MODELS, "it is remembered"
    (work / "Dockerfile").write_text(MODELS * 2)
    with pytest.raises(DockerfileNotApproved):
        await known.of(work)


async def test_what_is_built_is_what_was_looked_at(known: Dockerfiles, work: Path) -> None:
    known.note_writable([work])
    (work / "Dockerfile").write_text(USERS)

    async def changed_meanwhile(path: Path, text: str) -> bool:
        path.write_text(MODELS)
        return True

    found = await known.of(work, changed_meanwhile)
    assert found
    assert found.text == USERS
    with pytest.raises(DockerfileNotApproved):
        await known.of(work)


async def test_a_directory_below_one_that_was_written_to(known: Dockerfiles, work: Path) -> None:
    (work / "sub").mkdir()
    (work / "sub" / "Dockerfile").write_text(MODELS)
    known.note_writable([work])
    with pytest.raises(DockerfileNotApproved):
        await known.of(work / "sub")
    known.note_writable([work / "sub"])
    with pytest.raises(DockerfileNotApproved):
        await known.of(work / "sub")


async def test_a_link_to_a_directory_is_the_directory(known: Dockerfiles, work: Path, tmp_path: Path) -> None:
    known.note_writable([work])
    (work / "Dockerfile").write_text(MODELS)
    (tmp_path / "alias").symlink_to(work)
    with pytest.raises(DockerfileNotApproved):
        await known.of(tmp_path / "alias")


async def test_a_worktree_of_a_repository_that_was_committed_to(known: Dockerfiles, work: Path, tmp_path: Path) -> None:
    repository, second = tmp_path / "shop" / ".git", tmp_path / "second"
    second.mkdir()
    for tree in (work, second):
        (tree / "Dockerfile").write_text(USERS)
    assert await text_of(known, work, repository=repository) == USERS
    known.note_writable([work], repository=repository)
    assert await text_of(known, work, repository=repository) == USERS
    with pytest.raises(DockerfileNotApproved):
        await known.of(second, repository=repository)


async def test_a_dockerfile_that_is_a_link_into_what_a_container_writes(known: Dockerfiles, work: Path) -> None:
    (work / "docker").mkdir()
    (work / "docker" / "Dockerfile").write_text(USERS)
    (work / "Dockerfile").symlink_to("docker/Dockerfile")
    known.note_writable([work / "docker"])
    (work / "docker" / "Dockerfile").write_text(MODELS)
    with pytest.raises(DockerfileNotApproved):
        await known.of(work)


async def test_a_dockerfile_that_is_mounted_by_itself(known: Dockerfiles, work: Path) -> None:
    (work / "Dockerfile").write_text(USERS)
    known.note_writable([work / "Dockerfile"])
    (work / "Dockerfile").write_text(MODELS)
    with pytest.raises(DockerfileNotApproved):
        await known.of(work)


async def test_naming_one_is_a_yes_to_what_is_in_it_then(known: Dockerfiles, work: Path, tmp_path: Path) -> None:
    path, remembered = work / "dev.Dockerfile", tmp_path / "remembered"
    path.write_text(USERS)
    assert (await known.named(path, remembered)).text == USERS
    path.write_text(MODELS)
    with pytest.raises(DockerfileNotApproved):
        await known.named(path, remembered)
    with pytest.raises(DockerfileNotApproved):
        await known.named(path, remembered, no)
    assert (await known.named(path, remembered, yes)).text == MODELS
    assert (await known.named(path, remembered)).text == MODELS


def test_threads_that_note_the_same_at_once(known: Dockerfiles, work: Path) -> None:
    def note() -> None:
        for number in range(50):
            known.approve(work, Dockerfile(work / "Dockerfile", str(number)))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(note) for _ in range(4)]:
            done.result()


async def test_other_directories_are_no_matter(known: Dockerfiles, work: Path, tmp_path: Path) -> None:
    known.note_writable([work])
    (tmp_path / "Dockerfile").write_text(USERS)
    assert await text_of(known, tmp_path) == USERS


@pytest.mark.parametrize("damage", ["", "{}", "\x00"])
async def test_what_cannot_be_remembered_any_more_is_looked_at(
    known: Dockerfiles, work: Path, tmp_path: Path, damage: str
) -> None:
    (work / "Dockerfile").write_text(USERS)
    known.note_writable([work])
    (path,) = (tmp_path / "state" / "dockerfiles").iterdir()
    path.write_text(damage)
    with pytest.raises(DockerfileNotApproved):
        await known.of(work)


async def test_what_is_no_dockerfile(known: Dockerfiles, work: Path) -> None:
    path = work / "Dockerfile"
    os.mkfifo(path)
    with pytest.raises(InvalidInput, match="not a file"):
        await known.of(work)
    path.unlink()
    path.write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        await known.of(work)
    path.write_bytes(b"#" * 2_000_000)
    with pytest.raises(InvalidInput, match="more than 1048576 bytes"):
        await known.of(work)
    path.unlink()
    path.symlink_to(work / "nowhere")
    with pytest.raises(InvalidInput, match="cannot be read"):
        await known.of(work)
    known.note_writable([work])
