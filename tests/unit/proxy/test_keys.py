"""Where a login comes from, and what is refused of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cc_bridge.proxy.journal import Journal, ProxyLog
from cc_bridge.proxy.keys import Login, check_source, describe_source
from cc_bridge.proxy.terms import Refused, Upstream

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def read(source: dict[str, Any], tmp_path: Path, **options: Any) -> Upstream:
    return await Login(check_source(source), ProxyLog(Journal(tmp_path / "log")), **options).read()


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("ANTHROPIC_API_KEY", (("x-api-key", "k-1"),)),
        ("ANTHROPIC_AUTH_TOKEN", (("authorization", "Bearer k-1"),)),
        ("CLAUDE_CODE_OAUTH_TOKEN", (("authorization", "Bearer k-1"), ("anthropic-beta", "oauth-2025-04-20"))),
    ],
)
async def test_variables_as_they_are(name: str, headers: object, tmp_path: Path) -> None:
    found = await read({"variables": {name: "k-1"}}, tmp_path)
    assert (found.base_url, found.headers) == ("https://api.anthropic.com", headers)


async def test_the_address_and_headers_of_a_gateway_go_with_its_key(tmp_path: Path) -> None:
    more = {"ANTHROPIC_BASE_URL": "http://gate.example/v/", "ANTHROPIC_CUSTOM_HEADERS": "X-Team: a b\n\nX-Two:2"}
    found = await read({"variables": {"ANTHROPIC_API_KEY": "k", **more}}, tmp_path)
    assert found.base_url == "http://gate.example/v"
    assert found.headers == (("x-api-key", "k"), ("x-team", "a b"), ("x-two", "2"))


async def test_a_file_is_read_anew_for_each_request(tmp_path: Path) -> None:
    file = tmp_path / "key"
    login = Login({"file": str(file)}, ProxyLog(Journal(tmp_path / "log")))
    for key in ("sk-ant-one", "sk-ant-two"):
        file.write_text(key + "\n")
        assert (await login.read()).headers == (("x-api-key", key),)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exec sleep 1000", "took more than"),
        ("sleep 1000 & sleep 1000", "took more than"),
        ("echo key; exit 3", "exit code 3"),
        ("yes", "printed too much"),
        ("echo one; echo two", "more than one line"),
        ("true", "has nothing"),
        ("printf 'a\\tb\\n'", "more than one line"),
    ],
)
async def test_a_command_that_gives_no_key(command: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        await read({"command": command}, tmp_path, command_limit=0.3)
    assert refused.value.status == 401
    assert command not in refused.value.message  # the container reads it
    assert "no_login" in (tmp_path / "log").read_text()


async def test_a_commands_key_is_used_for_a_while(tmp_path: Path) -> None:
    now = [1000.0]
    ran = tmp_path / "ran"
    login = Login(
        {"command": f"echo x >> {ran}; echo sk-ant-key"}, ProxyLog(Journal(tmp_path / "log")), clock=lambda: now[0]
    )
    for _ in range(3):
        assert (await login.read()).headers == (("x-api-key", "sk-ant-key"),)
    now[0] += 301
    await login.read()
    assert ran.read_text() == "x\nx\n"


async def test_a_commands_key_that_the_api_refuses_is_read_anew(tmp_path: Path) -> None:
    now, ran = [1000.0], tmp_path / "ran"
    command = f'echo >> {ran}; echo "key-$(wc -l < {ran})"'
    login = Login({"command": command}, ProxyLog(Journal(tmp_path / "log")), clock=lambda: now[0])
    first = await login.read()
    login.refused(first)
    assert await login.read() == first, "a container may have it run as often as it likes"
    now[0] += 6
    login.refused(first)
    second = await login.read()
    assert second.headers == (("x-api-key", "key-2"), ("authorization", "Bearer key-2")), "a gateway takes either"
    now[0] += 6
    login.refused(first)  # a request that was under way with the one before
    assert await login.read() == second


async def test_a_login_of_claude_code_is_told_when_it_has_expired(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"claudeAiOauth": {"accessToken": "sk-ant-oat01-x", "expiresAt": 5_000_000}}))
    source = {"login_file": str(file)}
    found = await read(source, tmp_path, clock=lambda: 4999.0)
    assert found.headers[0] == ("authorization", "Bearer sk-ant-oat01-x")
    with pytest.raises(Refused, match="expired"):
        await read(source, tmp_path, clock=lambda: 5000.0)
    assert "sk-ant" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("content", ["", "[]", '{"claudeAiOauth": 1}', '{"claudeAiOauth": {"accessToken": "a\\nb"}}'])
async def test_what_is_no_login_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "login").write_text(content)
    with pytest.raises(Refused):
        await read({"login_file": str(tmp_path / "login")}, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        None,
        {},
        {"variables": {}},
        {"variables": {"ANTHROPIC_API_KEY": 1}},
        {"file": ""},
        {"file": "a", "command": "b"},
        {"command": "a\0b"},
        {"file": "a", "other": 1},
        {"variables": {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "file:///etc/passwd"}},
        {"variables": {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://gate.example:99999"}},
        {"variables": {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": f"http://{'a' * 70}.example"}},
        {"variables": {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_CUSTOM_HEADERS": "a b: c"}},
    ],
)
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check_source(source)


def test_a_description_has_no_secret() -> None:
    assert describe_source({"variables": {"ANTHROPIC_API_KEY": "secret"}}) == "ANTHROPIC_API_KEY"
    assert describe_source({"command": "echo secret"}) == "key command"
