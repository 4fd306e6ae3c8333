"""What `doctor` says of a login that has expired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cc_bridge.cli.doctor import _kept_login


@pytest.mark.parametrize(
    ("more", "state", "found"),
    [
        ({"expiresAt": 4_000_000_000_000}, "ok", "--key outside"),
        ({"expiresAt": 1000}, "fail", "has expired"),
        ({"expiresAt": 1000, "refreshToken": "r"}, "ok", "has expired"),
        ({"accessToken": 7}, "ok", "the login of"),
    ],
)
def test_an_expired_login_is_told(more: dict[str, Any], state: str, found: str, tmp_path: Path) -> None:
    login = {"claudeAiOauth": {"accessToken": "secret", **more}}
    (tmp_path / ".credentials.json").write_text(json.dumps(login))
    check = _kept_login(tmp_path)
    assert (check.state, found in check.found) == (state, True)
    assert "secret" not in check.found + check.advice
