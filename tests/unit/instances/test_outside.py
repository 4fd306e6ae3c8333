"""What is inside in the key's place, and what the proxy is given. covers: B5, T6"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cc_bridge import InvalidInput
from cc_bridge.cli.sealed_options import parse_api_limits
from cc_bridge.instances.outline import container_env, own_env
from cc_bridge.instances.outside import login_outside
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


def test_limits_are_numbers_by_name() -> None:
    assert parse_api_limits(["usd-per-day=2.5", "at-once=4"]) == ApiLimits(usd_per_day=2.5, at_once=4)
    for text in ("usd=1", "at-once", "at-once=x"):
        with pytest.raises(InvalidInput, match="--api-limit"):
            parse_api_limits([text])
