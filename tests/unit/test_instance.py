"""The record: what is refused, and which field is named. covers: C2, M3"""

from __future__ import annotations

import enum
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, ClaudeOptions, InvalidInput
from cc_bridge.kinds import ONLY_FOR
from cc_bridge.mounts import parse_mount

GOOD: dict[str, Any] = {"name": "demo", "kind": "docker", "image": "i", "workspace": Path("/")}


def kept(record: ClaudeInstance) -> ClaudeInstance:
    return ClaudeInstance.from_json_types(json.loads(json.dumps(record.as_json_types())))


def test_a_good_one() -> None:
    record = ClaudeInstance.of(**GOOD)
    assert kept(record) == record


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "Upper"}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": None}, "name"),
        ({"kind": "cloud"}, "kind"),
        ({"image": ""}, "image"),
        ({"workspace": None}, "workspace"),
        ({"env": {"A B": "x"}}, "env"),
        ({"env": {"A": "x\0y"}}, "env"),
        ({"mounts": ("/:x",)}, "must be absolute"),
        ({"mounts": ("/:/x:rx",)}, "'rx'"),
        ({"memory": "much"}, "memory"),
        ({"colour": "red"}, "colour"),
        ({"kind": "local", "claude": ClaudeOptions(skip_permissions=True)}, "skip_permissions"),
    ],
)
def test_bad_ones(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        ClaudeInstance.of(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("field", "value", "needed"),
    [
        ("image", 3, "a string"),
        ("project", None, "a string"),
        ("ephemeral", "yes", "True or False"),
        ("relay", 1, "True or False"),
        ("memory", 1.5, "a whole number"),
        ("memory", "512m", "a whole number"),
        ("pids", True, "a whole number"),
        ("cpus", float("nan"), "a number"),
        ("cpus", True, "a number"),
        ("cpus", "2", "a number"),
        ("workspace", 3, "a path"),
        ("created", 3, "a time"),
        ("created", "yesterday", "isoformat"),
        ("mounts", "/a:/a", "a list of strings"),
        ("mounts", (3,), "a list of strings"),
        ("env", ["A=b"], "a dictionary of strings"),
        ("env", {"A": 3}, "a dictionary of strings"),
        ("labels", {3: "a"}, "a dictionary of strings"),
        ("ports", [80], "a dictionary of whole numbers"),
        ("ports", {"a": 80}, "a whole number"),
        ("ports", {80: "80"}, "a whole number"),
        ("ports", {0: 80}, "from 1 to 65535"),
        ("ports", {80: 65536}, "from 1 to 65535"),
        ("restart", "sometimes", "one of no, "),
        ("kind", "cloud", "one of docker, local, tmux, swarm"),
        ("claude", "opus", "a dictionary"),
        ("claude", {"modell": "opus"}, "no field 'modell'"),
        ("claude", {"model": 3}, "model: a string"),
        ("claude", ClaudeOptions(allowed_tools="Bash"), "allowed_tools: a list of strings"),  # type: ignore[arg-type]
    ],
)
def test_a_field_of_another_type_is_named_with_what_is_needed(field: str, value: object, needed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ClaudeInstance.of(**{**GOOD, field: value})
    assert f"{field}: " in caught.value.what
    assert needed in caught.value.what


def test_every_problem_is_named_and_no_secret() -> None:
    with pytest.raises(InvalidInput) as caught:
        ClaudeInstance.of(**{**GOOD, "memory": "much", "env": {"KEY": 12345}, "pids": None})
    assert all(name in str(caught.value) for name in ("demo", "memory", "env", "pids"))
    assert "12345" not in str(caught.value)


def test_a_record_cannot_be_assigned_to() -> None:
    with pytest.raises(AttributeError, match="memory"):
        ClaudeInstance.of(**GOOD).memory = 3  # type: ignore[misc]


def test_a_record_of_0_1_0_is_read() -> None:
    """As it wrote them: every field, whatever the kind, ports by strings, and the time with a Z."""
    kept = """{"name": "old", "kind": "docker", "image": "i", "dockerfile": null, "container": "", "workspace": "/w",
    "worktree": "", "repository": null, "mount_at": "/workspace", "read_only_workspace": false, "mounts": ["/a:/a:ro"],
    "env": {"A": "b"}, "network": "bridge", "memory": 2147483648, "cpus": 2.0, "cpu_shares": 512, "pids": 512,
    "ports": {"8080": 0}, "restart": "no", "writable": false, "docker_socket": false, "credentials": false, "user": "",
    "labels": {}, "project": "p", "ephemeral": false, "tmux": false, "tmux_socket": "", "pane": "", "relay": true,
    "claude": {"program": "claude", "model": "m", "system_prompt": "", "append_system_prompt": "",
    "allowed_tools": ["Bash"], "disallowed_tools": [], "permission_mode": "", "skip_permissions": true,
    "mcp_config": [], "extra": []}, "resume": "", "fork": false, "created": "2026-01-02T03:04:05.678901Z"}"""
    record = ClaudeInstance.from_json_types(json.loads(kept))
    assert (record.ports, record.mounts, record.claude.allowed_tools) == ({8080: 0}, ("/a:/a:ro",), ("Bash",))
    assert record.created.isoformat() == "2026-01-02T03:04:05.678901+00:00"


LOCAL: dict[str, Any] = {"name": "demo", "kind": "local", "workspace": Path("/")}

#: A value of each field that not all kinds have, other than its default.
SET: dict[str, Any] = {
    "image": "i",
    "dockerfile": Path("/Dockerfile"),
    "container": "c",
    "mount_at": "/elsewhere",
    "read_only_workspace": True,
    "mounts": ("/a:/a",),
    "network": "none",
    "memory": 3 * 1024**3,
    "cpus": 1.5,
    "cpu_shares": 7,
    "pids": 7,
    "ports": {80: 0},
    "restart": "always",
    "writable": True,
    "docker_socket": True,
    "credentials": True,
    "user": "u",
    "sealed": True,
    "allow_hosts": ("packages.example",),
    "tmux": True,
    "tmux_socket": "/s",
    "pane": "%3",
    "relay": False,
    "constraints": ("node.labels.disk==ssd",),
    "spread": ("node.labels.rack",),
    "reserve_memory": 1024**3,
    "reserve_cpus": 0.5,
    "most_in_project": 3,
    "workspace_volume": "v",
    "volume_driver": "nfs",
    "volume_options": {"device": ":/{volume}"},
    "service": "s",
}


@pytest.mark.parametrize("kind", ["docker", "local", "tmux", "swarm"])
@pytest.mark.parametrize("field", ONLY_FOR)
def test_a_field_that_means_nothing_for_the_kind_is_refused_by_name(field: str, kind: str) -> None:
    record = {**LOCAL, "kind": kind, **({"image": "i"} if kind in ("docker", "swarm") else {}), field: SET[field]}
    record |= {"sealed": True} if field == "allow_hosts" else {}
    record |= {"project": "p"} if field == "most_in_project" else {}
    record |= {"workspace": None} if (field, kind) == ("workspace_volume", "swarm") else {}
    record |= {"volume_driver": "nfs"} if (field, kind) == ("volume_options", "swarm") else {}
    if kind in ONLY_FOR[field]:
        ClaudeInstance.of(**record)
        return
    with pytest.raises(InvalidInput, match=f"{field}: only for the kind .*, and this is '{kind}'") as caught:
        ClaudeInstance.of(**record)
    assert all(repr(other) in str(caught.value.hint) for other in ONLY_FOR[field])


def test_allowed_hosts_are_read_as_the_proxy_reads_them() -> None:
    sealed = {**LOCAL, "kind": "docker", "image": "i", "sealed": True}
    hosts = ("python", "node", "debian", "github", "a.example", "*.a.example:8443", "b.example:443=10.0.0.0/8")
    assert ClaudeInstance.of(**sealed, allow_hosts=hosts).allow_hosts == hosts
    for wrong in ("a.example:99999", "127.1", "a.example=169.254.169.254", "a.example=10.0.0.1/8", "pythn:", "*"):
        with pytest.raises(InvalidInput, match=r"allow_hosts: .*write NAME"):
            ClaudeInstance.of(**sealed, allow_hosts=(wrong,))


def test_a_field_at_its_default_is_no_mistake() -> None:
    """So a record can be made of all the fields of another, as an update does."""
    record = ClaudeInstance.of(**LOCAL)
    assert ClaudeInstance.of(**vars(record)) == record


@pytest.mark.parametrize("field", [field for field in ONLY_FOR if "local" not in ONLY_FOR[field]])
def test_of_a_record_that_is_kept_what_means_nothing_is_dropped(field: str) -> None:
    """Older releases took it, and passed over it."""
    data = {**ClaudeInstance.of(**LOCAL).as_json_types(), field: SET[field]}
    record = ClaudeInstance.from_kept(data)
    assert record.as_json_types()[field] == ClaudeInstance.of(**LOCAL).as_json_types()[field]


def test_what_is_said_of_the_fields_is_what_holds() -> None:
    field = r"^        ([a-z_]+): ((?:Docker|Swarm|tmux|, )+): "
    said = dict(re.findall(field, str(ClaudeInstance.__doc__), re.MULTILINE))
    assert {field: tuple(words.lower().split(", ")) for field, words in said.items()} == dict(ONLY_FOR)


@pytest.mark.parametrize("missing", ["name", "kind", "image", "workspace"])
def test_without_a_field_that_is_needed(missing: str) -> None:
    with pytest.raises(InvalidInput, match=missing):
        ClaudeInstance.of(**{key: value for key, value in GOOD.items() if key != missing})


def test_an_existing_container_needs_neither_image_nor_workspace() -> None:
    assert ClaudeInstance.of(name="demo", kind="docker", container="theirs").image == ""


def test_environment_is_not_shown() -> None:
    assert "hush" not in repr(ClaudeInstance.of(**GOOD, env={"MY_TOKEN": "hush"}))


def test_a_relative_workspace_is_where_the_record_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ClaudeInstance.of(**{**GOOD, "workspace": "."}).workspace == tmp_path


def test_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_mount(f"{tmp_path}:/x") == (str(tmp_path), "/x", False)
    assert parse_mount(f"{tmp_path}:/x:ro") == (str(tmp_path), "/x", True)
    monkeypatch.chdir(tmp_path)
    assert parse_mount(".:/x:rw") == (str(tmp_path), "/x", False)


def test_a_record_whose_mount_has_gone_is_a_record(tmp_path: Path) -> None:
    """Or its instance could not even be stopped; it cannot be started, which is said then."""
    record = ClaudeInstance.of(**{**GOOD, "mounts": (f"{tmp_path}/gone:/x",)})
    assert kept(record) == record
    with pytest.raises(InvalidInput, match=f"{tmp_path}/gone does not exist on this machine"):
        record.check_mounts()
    (tmp_path / "gone").mkdir()
    record.check_mounts()


@pytest.mark.parametrize(
    ("change", "times"),
    [
        ({}, (600, 86_400)),
        ({"sleep_after": 5}, (5, 86_400)),
        ({"sleep_after": 0, "stop_after": 0}, (0, 0)),
        ({"tmux": True}, (0, 0)),
        ({"tmux": True, "sleep_after": 0}, (0, 0)),
    ],
)
def test_when_it_sleeps(change: dict[str, Any], times: tuple[float, float]) -> None:
    """covers: B7"""
    record = ClaudeInstance.of(**{**GOOD, **change})
    assert record.sleep_times == times
    assert kept(record) == record


@pytest.mark.parametrize("field", ["sleep_after", "stop_after"])
@pytest.mark.parametrize("value", [-1, float("nan"), 1e10])
def test_no_times_to_sleep(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=f"{field}: seconds, 0 for never"):
        ClaudeInstance.of(**{**GOOD, field: value})
    with pytest.raises(InvalidInput, match=f"{field}: a person may look at a pane"):
        ClaudeInstance.of(**{**GOOD, "tmux": True, field: 5})


class Kinds(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    LOCAL = "local"


@pytest.mark.parametrize("field", ["cpus", "sleep_after", "memory", "pids"])
@pytest.mark.parametrize("value", [10**400, 10**5000], ids=["400", "5000"])
def test_a_number_of_hundreds_of_digits_is_none(field: str, value: int) -> None:
    with pytest.raises(InvalidInput, match=field):
        ClaudeInstance.of(**{**GOOD, field: value})


def test_a_workspace_of_no_user() -> None:
    with pytest.raises(InvalidInput, match="workspace: there is no such user"):
        ClaudeInstance.of(**{**GOOD, "workspace": "~no-such-user-9/x"})


def test_of_an_enumeration_of_strings_the_string_is_kept() -> None:
    made = ClaudeInstance.of(
        name="demo",
        kind=Kinds.LOCAL,  # type: ignore[arg-type]
        workspace=Path("/"),
        project=Kinds.LOCAL,
        claude=ClaudeOptions(model=Kinds.LOCAL, allowed_tools=(Kinds.LOCAL,)),
        env={"A": Kinds.LOCAL},
    )
    values = (made.kind, made.project, made.claude.model, made.claude.allowed_tools[0], made.env["A"])
    assert [(type(value), value) for value in values] == [(str, "local")] * 5
