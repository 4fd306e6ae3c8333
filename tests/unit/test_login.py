"""A login travels whole, or not at all. covers: T6, M4"""

from __future__ import annotations

from pathlib import Path

import pytest

from cc_bridge.errors import InvalidInput
from cc_bridge.login import PARTS, check_key, check_reachable, host_login, login_file, with_login

GATEWAY = {
    "ANTHROPIC_AUTH_TOKEN": "gateway-token",
    "ANTHROPIC_BASE_URL": "https://gateway.example",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Team: a",
}


def test_the_key_goes_with_its_server_and_its_headers() -> None:
    assert host_login({**GATEWAY, "PATH": "/bin", "DATABASE_URL": "x"}) == GATEWAY


def test_of_two_keys_one_goes() -> None:
    both = {"CLAUDE_CODE_OAUTH_TOKEN": "b", "ANTHROPIC_API_KEY": "a", "ANTHROPIC_AUTH_TOKEN": ""}
    assert host_login(both) == {"ANTHROPIC_API_KEY": "a"}


def test_nothing_is_nothing() -> None:
    assert host_login({"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "for other things"}) == {}


@pytest.mark.parametrize(
    ("provider", "needs"),
    [
        ("CLAUDE_CODE_USE_BEDROCK", {"AWS_REGION": "eu", "AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s"}),
        ("CLAUDE_CODE_USE_VERTEX", {"CLOUD_ML_REGION": "eu", "ANTHROPIC_VERTEX_PROJECT_ID": "p"}),
        ("CLAUDE_CODE_USE_FOUNDRY", {"ANTHROPIC_FOUNDRY_RESOURCE": "r", "ANTHROPIC_FOUNDRY_API_KEY": "k"}),
    ],
)
def test_another_provider_goes_with_what_it_needs(provider: str, needs: dict[str, str]) -> None:
    login = {provider: "1", **needs}
    assert host_login({**login, "PATH": "/bin"}) == login
    assert provider not in host_login(needs)


def test_an_instance_without_a_login_gets_the_machines() -> None:
    assert with_login({"COLOUR": "blue"}, GATEWAY) == {"COLOUR": "blue", **GATEWAY}


@pytest.mark.parametrize(
    "own", [{"ANTHROPIC_API_KEY": "its own"}, {"ANTHROPIC_BASE_URL": "https://b"}, {"CLAUDE_CODE_USE_BEDROCK": "1"}]
)
def test_a_key_never_goes_to_another_server_than_its_own(own: dict[str, str]) -> None:
    assert with_login(own, GATEWAY) == own


def test_headers_of_an_instance_s_own_leave_the_login_as_it_is() -> None:
    own = {"ANTHROPIC_CUSTOM_HEADERS": "X-Tag: b"}
    assert with_login(own, GATEWAY) == {**GATEWAY, **own}


@pytest.mark.parametrize(
    ("own", "never"),
    [
        (
            {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "mine"},
            {"AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"},
        ),
        ({"ANTHROPIC_FOUNDRY_API_KEY": "mine"}, {"ANTHROPIC_FOUNDRY_RESOURCE"}),
    ],
)
def test_two_logins_of_a_provider_are_not_mixed(own: dict[str, str], never: set[str]) -> None:
    host = {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_SESSION_TOKEN": "h", "AWS_BEARER_TOKEN_BEDROCK": "h"}
    host |= {"ANTHROPIC_FOUNDRY_RESOURCE": "company", "ANTHROPIC_API_KEY": "k"}
    got = with_login(own, host)
    assert not never & set(got)
    assert got["ANTHROPIC_API_KEY"] == "k"


def test_a_provider_that_a_settings_file_chooses_has_what_it_needs() -> None:
    needs = {"ANTHROPIC_VERTEX_PROJECT_ID": "p", "CLOUD_ML_REGION": "eu"}
    assert host_login(needs) == needs


def test_an_address_without_a_key_is_refused_where_a_login_in_a_file_would_go_there() -> None:
    with pytest.raises(InvalidInput, match="demo: ANTHROPIC_BASE_URL is set without a key"):
        check_key({"ANTHROPIC_BASE_URL": "https://b"}, "demo")
    check_key({"ANTHROPIC_BASE_URL": "https://b", "ANTHROPIC_API_KEY": "k"})
    check_key({"CLAUDE_CODE_USE_BEDROCK": "1", "ANTHROPIC_BEDROCK_BASE_URL": "https://b"})
    check_key({})


def test_what_decides_on_a_login_is_not_inherited_beside_it() -> None:
    """A local process gets its login by its start, and nothing of another one from where its agent was started."""
    assert set(GATEWAY) <= set(PARTS)
    assert not {"PATH", "AWS_REGION", "HOME"} & set(PARTS), "other programs use these"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8080", "http://localhost:1/x", "https://api.localhost", "http://[::1]:9", "http://127.9.9.9"],
)
def test_an_address_on_loopback_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"loopback.*--network host") as caught:
        check_reachable({"ANTHROPIC_BASE_URL": url}, "demo")
    assert caught.value.instance == "demo"


@pytest.mark.parametrize(
    "url", ["", "https://api.example", "http://172.17.0.1:80", "nonsense", "http://[", "http://0x7f"]
)
def test_any_other_address_may_be_reachable(url: str) -> None:
    check_reachable({"ANTHROPIC_BASE_URL": url})


def test_the_file_of_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(InvalidInput, match="no login"):
        login_file()
    (tmp_path / ".credentials.json").touch()
    assert login_file() == tmp_path / ".credentials.json"
