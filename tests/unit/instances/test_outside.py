"""What is inside in the key's place, and what the proxy is given. covers: B5, T6"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import InvalidInput
from cc_bridge.cli.sealed_options import parse_api_limits
from cc_bridge.instances.claude_settings import without_login
from cc_bridge.instances.outline import container_env, own_env
from cc_bridge.instances.outside import login_outside
from cc_bridge.instances.pane_place import PanePlace
from cc_bridge.instances.registry import Registry
from cc_bridge.limits import ApiLimits

GATEWAY = {
    "ANTHROPIC_AUTH_TOKEN": "gateway-token",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Team: secret",
}


def test_the_login_is_outside_as_a_whole_and_the_rest_inside(make_record: Any, tmp_path: Path) -> None:
    record = make_record(kind="docker", image="i", sealed=True, env={**GATEWAY, "A": "b"})
    assert login_outside(record) == {"variables": GATEWAY}
    env = container_env(record, {}, tmp_path)
    assert env["A"] == "b"
    assert not {"ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"} & set(env)
    assert env["ANTHROPIC_AUTH_TOKEN"] == (tmp_path / "placeholder").read_text()


def test_one_of_several_gets_no_login_of_its_own(make_record: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no login of its own"):
        own_env(make_record(key="outside", env=GATEWAY), {"ANTHROPIC_API_KEY": "k"}, tmp_path)


def test_where_the_key_is_comes_before_the_logins_of_this_machine(
    make_record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of-this-machine")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://company.example")
    gate = {"ANTHROPIC_BASE_URL": "http://gate.example"}
    record = make_record(key="outside", key_command="pass key", env={**gate, "HOME": str(tmp_path)})
    assert login_outside(record) == {"command": "pass key", "variables": gate}
    assert own_env(record, {}, tmp_path)["ANTHROPIC_API_KEY"].startswith("sk-ant-api03-")
    assert login_outside(make_record(key="outside", key_file="/k")) == {"file": "/k", "variables": {}}
    with pytest.raises(InvalidInput, match="ANTHROPIC_AUTH_TOKEN, and key_command"):
        login_outside(make_record(key="outside", key_command="pass key", env=GATEWAY))
    for fields in ({"key_command": "pass key"}, {"key": "outside", "key_command": "c", "key_file": "/k"}):
        with pytest.raises(InvalidInput, match="key_command"):
            make_record(**fields)


def test_a_login_cannot_be_mounted_into_a_sealed_instance(make_record: Any) -> None:
    with pytest.raises(InvalidInput, match="credentials: the login would be inside"):
        make_record(kind="docker", image="i", sealed=True, credentials=True)


SETTINGS = {"model": "m", "apiKeyHelper": "echo key", "env": {"A": "b", "ANTHROPIC_BASE_URL": "http://x", "AWS_X": "y"}}


def test_settings_with_a_login_are_refused_and_copied_without_it(make_record: Any, tmp_path: Path) -> None:
    record = make_record(key="outside", env={**GATEWAY, "CLAUDE_CONFIG_DIR": str(tmp_path)})
    own_env(record, {}, tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(InvalidInput, match=r"settings\.json has apiKeyHelper, env\.ANTHROPIC_BASE_URL, which"):
        own_env(record, {}, tmp_path)
    copied = without_login(json.dumps(SETTINGS))
    assert json.loads(copied) == {"model": "m", "env": {"A": "b", "AWS_X": "y"}}
    (tmp_path / "settings.json").write_text(copied)
    own_env(record, {}, tmp_path)
    for text in ("", "[]", "[" * 100_000, '{"env": 3}'):
        without_login(text)


def test_a_pane_s_own_settings_begin_without_the_login(make_record: Any, tmp_path: Path) -> None:
    users = tmp_path / ".claude"
    users.mkdir()
    (users / "settings.json").write_text(json.dumps(SETTINGS))
    place = PanePlace(make_record(kind="tmux", key="outside", env=GATEWAY), Registry(tmp_path / "state"))
    place.home.prepare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        patch.delenv("CLAUDE_CONFIG_DIR", raising=False)
        place._prepare_config()
    assert "apiKeyHelper" not in (place.home.config / "settings.json").read_text()
    place.claude_env()
    (place.home.config / "settings.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(InvalidInput, match="apiKeyHelper"):
        place.claude_env()


def test_limits_are_numbers_by_name() -> None:
    assert parse_api_limits(["usd-per-day=2.5", "at-once=4"]) == ApiLimits(usd_per_day=2.5, at_once=4)
    assert parse_api_limits(["at-once=4"], ApiLimits(usd_per_day=1.0)) == ApiLimits(usd_per_day=1.0, at_once=4)
    for text in ("usd=1", "at-once", "at-once=x"):
        with pytest.raises(InvalidInput, match="--api-limit"):
            parse_api_limits([text])
