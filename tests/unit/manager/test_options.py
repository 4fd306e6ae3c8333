"""What a project's container is to be: names, mounts, and paths on both sides of them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.engine.container_spec import CONTAINER_HOME, Mount
from cc_bridge.errors import InvalidInput
from cc_bridge.manager.options import (
    DEPENDENCIES,
    ContainerOptions,
    PathMap,
    build_container_env,
    build_container_mounts,
    container_name,
    dependency_volumes,
)


def options(**fields: Any) -> ContainerOptions:
    return ContainerOptions(**{"project": "demo", **fields})


# Names


def test_a_name_has_the_project_in_lower_case_and_the_time_in_utc() -> None:
    now = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert container_name("My.Project_1", now) == "cc-bridge-my.project_1-20260304-050607"


@pytest.mark.parametrize("project", ["", "-x", ".x", "a/b", "a b", "a\n", "x" * 42, "é"])
def test_a_project_that_cannot_be_in_a_name(project: str) -> None:
    with pytest.raises(InvalidInput, match="no name for a project"):
        options(project=project)


@pytest.mark.parametrize("project", ["a", "0", "A.b-c_d", "x" * 41])
def test_a_project_that_can(project: str) -> None:
    assert options(project=project).project == project


# What is refused


def test_a_workspace_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="is not a directory"):
        options(workspace=tmp_path / "file")
    with pytest.raises(InvalidInput, match="does not exist"):
        options(workspace=tmp_path / "none")


def test_a_workspace_is_mounted_at_an_absolute_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not an absolute path"):
        options(workspace=tmp_path, mount_at="app")


def test_variables_are_not_shown() -> None:
    assert "hush" not in repr(options(env={"ANY": "hush"}))


# Mounts


@pytest.mark.parametrize("read_only", [False, True])
def test_the_workspace_and_a_home_of_its_own(tmp_path: Path, read_only: bool) -> None:
    workspace = tmp_path / "real"
    workspace.mkdir()
    (tmp_path / "link").symlink_to(workspace)
    wanted = options(workspace=tmp_path / "link", mount_at="/app", read_only_workspace=read_only)
    assert build_container_mounts(wanted, Path("/state/home")) == (
        Mount(str(workspace), "/app", read_only),
        Mount("/state/home", CONTAINER_HOME),
    )


def test_nothing_is_mounted_that_was_not_asked_for() -> None:
    assert build_container_mounts(options()) == ()


def test_the_users_mounts(tmp_path: Path) -> None:
    wanted = options(mounts=[f"{tmp_path}:/data", f"{tmp_path}:/look:ro"])
    assert build_container_mounts(wanted) == (Mount(str(tmp_path), "/data"), Mount(str(tmp_path), "/look", True))


@pytest.mark.parametrize("mount", ["/nowhere-at-all:/x", "/:x", "/:/x:rx", "only"])
def test_a_mount_that_cannot_be_is_named(mount: str) -> None:
    with pytest.raises(InvalidInput, match=mount):
        build_container_mounts(options(mounts=[mount]))


@pytest.mark.parametrize("second", ["/workspace", "/workspace/", CONTAINER_HOME])
def test_nothing_is_mounted_over_another(tmp_path: Path, second: str) -> None:
    with pytest.raises(InvalidInput, match="is mounted twice"):
        build_container_mounts(options(workspace=tmp_path, mounts=[f"{tmp_path}:{second}"]), tmp_path)


def test_claude_codes_login_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(InvalidInput, match="no login"):
        build_container_mounts(options(credentials=True))
    (tmp_path / ".credentials.json").touch()
    (mount,) = build_container_mounts(options(credentials=True))
    assert mount == Mount(
        str(tmp_path / ".credentials.json"), f"{CONTAINER_HOME}/.claude/.credentials.json", read_only=True
    )


# Variables


@pytest.mark.parametrize("env", [{"my.var": "x"}, {"": "x"}, {"X; rm -rf /": "x"}, {"1X": "x"}, {"X": "a\0b"}])
def test_a_variable_that_a_shell_cannot_have(env: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="env: "):
        options(env=env)


def test_what_a_listing_may_show_is_what_is_not_the_users() -> None:
    """covers: T3, M4"""
    made = build_container_env(options(env={"PATH": "/x", "PORT": "their own"}, ports={8000: 0, 9000: 0}), {})
    assert made.plain == {"TERM": "xterm-256color", "HOME": CONTAINER_HOME, "PROJECT_ID": "demo", "PORT": "8000"}
    assert made.secret == {"PATH": "/x", "PORT": "their own"}
    assert "/x" not in repr(made)


def test_a_login_is_given_when_it_is_asked_for(tmp_path: Path) -> None:
    """covers: T6"""
    environ = {"ANTHROPIC_AUTH_TOKEN": "t", "ANTHROPIC_BASE_URL": "https://gateway.example"}
    assert build_container_env(options(), environ).secret == {}
    assert build_container_env(options(login=True), environ).secret == environ


# Volumes of dependencies


@pytest.mark.parametrize("kind", sorted(DEPENDENCIES))
def test_dependencies_lie_in_a_volume_of_the_projects_own(tmp_path: Path, kind: str) -> None:
    wanted = options(workspace=tmp_path, project_type=kind, mount_at="/app")
    volumes = dependency_volumes(wanted)
    assert list(volumes.values()) == [f"/app/{directory}" for directory in DEPENDENCIES[kind]]
    assert all(name.startswith("cc-bridge-demo-") and "/" not in name for name in volumes)
    mounts = build_container_mounts(wanted)
    assert [(mount.source, mount.target) for mount in mounts if mount.is_volume] == list(volumes.items())


def test_no_volume_without_a_workspace_or_a_known_type(tmp_path: Path) -> None:
    assert dependency_volumes(options(project_type="node")) == {}
    assert dependency_volumes(options(workspace=tmp_path, project_type="cobol")) == {}


# Paths on both sides


MOUNTS = [
    Mount("/home/me/project", "/workspace"),
    Mount("/home/me/project/data", "/data"),
    Mount("/srv", "/workspace/srv"),
    Mount("a-volume", "/workspace/node_modules"),
]


@pytest.mark.parametrize(
    ("host", "container"),
    [
        ("/home/me/project", "/workspace"),
        ("/home/me/project/a/b", "/workspace/a/b"),
        ("/home/me/project/data/x", "/data/x"),
        ("/srv/x", "/workspace/srv/x"),
    ],
)
def test_a_path_in_a_mount_is_found_on_both_sides(host: str, container: str) -> None:
    paths = PathMap(MOUNTS)
    assert paths.to_container(host) == container
    assert paths.to_host(container) == host


def test_a_path_outside_is_nowhere() -> None:
    paths = PathMap(MOUNTS)
    assert paths.to_container("/home/me/projector") is None
    assert paths.to_container("/home/me/project/../secret") is None
    assert paths.to_host("/etc/passwd") is None
    assert paths.to_host("/workspace/../etc") is None


def test_what_another_mount_hides_is_nowhere() -> None:
    """In the container there is something else under that name."""
    paths = PathMap(MOUNTS)
    assert paths.to_host("/workspace/node_modules/x") is None, "it is in a volume"
    assert paths.to_container("/home/me/project/node_modules/x") is None
    assert paths.to_container("/home/me/project/srv/x") is None
    both = PathMap([*MOUNTS, Mount("/home/me", "/all")])
    assert both.to_container("/home/me/project/srv/x") == "/all/project/srv/x", "it is seen elsewhere"


@given(st.lists(st.sampled_from(["a", "b", "data", "srv", "node_modules", ".."]), max_size=6))
def test_there_and_back_again(parts: list[str]) -> None:
    paths = PathMap(MOUNTS)
    for path in ("/".join([root, *parts]) for root in ("/home/me/project", "/srv", "/workspace", "/data")):
        inside, host = paths.to_container(path), paths.to_host(path)
        assert inside is None or paths.to_host(inside) == os.path.normpath(path)
        assert host is None or paths.to_host(paths.to_container(host) or "") == host, "what is seen has a name"
