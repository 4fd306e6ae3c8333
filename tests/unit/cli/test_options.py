"""What is said on the command line, and what is completed there. covers: G2"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cc_bridge import InvalidInput
from cc_bridge.cli.ages import ago, span
from cc_bridge.cli.completion import complete_conversation, complete_mode, complete_pane, complete_path
from cc_bridge.cli.words import check_claude_args, parse_ports, parse_times, read_mcp_config
from cc_bridge.instances.registry import Registry
from cc_bridge.record import ClaudeInstance


@pytest.mark.parametrize(
    ("text", "ports"),
    [("8080:80", {80: 8080}), ("80", {80: 0}), (":80", {80: 0}), ("127.0.0.1:8080:80", {80: 8080})],
)
def test_ports(text: str, ports: dict[int, int]) -> None:
    assert parse_ports([text]) == ports


@pytest.mark.parametrize("text", ["", "http", "0.0.0.0:80:80", "80:", "80/udp", "1:2:3", "-1"])
def test_no_ports(text: str) -> None:
    """None is published to other machines."""
    with pytest.raises(InvalidInput, match="PORT"):
        parse_ports([text])


def test_a_port_is_not_dropped_for_another() -> None:
    with pytest.raises(InvalidInput, match="port 80 is published twice"):
        parse_ports(["8080:80", "8081:80"])
    assert parse_ports(["8080:80", "8081:81"]) == {80: 8080, 81: 8081}


@pytest.mark.parametrize(("ports", "network"), [({0: 1}, "bridge"), ({1: 65536}, "bridge"), ({1: 1}, "host")])
def test_ports_that_cannot_be(ports: dict[int, int], network: str) -> None:
    with pytest.raises(InvalidInput, match="port"):
        ClaudeInstance.of(name="x", kind="docker", image="i", workspace="/tmp", ports=ports, network=network)


def test_mcp_servers_are_json_or_a_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "config").write_text('{"mcpServers": {}}')
    (tmp_path / "list").write_text("[]")
    assert read_mcp_config(str(tmp_path / "config")) == read_mcp_config('{"mcpServers": {}}')
    for bad in (str(tmp_path / "list"), str(tmp_path / "none"), "{", "{" * 10_000):
        with pytest.raises(InvalidInput, match="--mcp-config"):
            read_mcp_config(bad)


def test_words_of_claude_codes_own() -> None:
    assert check_claude_args(["--effort", "high"]) == ("--effort", "high")
    assert check_claude_args(["-d", "--verbose", "-"]) == ("-d", "--verbose", "-")
    for word in ("-p", "-pc", "-rSESSION", "--output-format=text", "--dangerously-skip-permissions", "--resume"):
        with pytest.raises(InvalidInput, match="after --"):
            check_claude_args(["x", word])


def test_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = ClaudeInstance.of(name="complete-me", kind="local", workspace=tmp_path)
    home = Registry().home(record.name)
    home.prepare()
    home.save(record)
    try:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "complete").mkdir()
        (tmp_path / ".hidden").write_text("")
        assert complete_path("comp") == ["complete-me:", "complete/"]
        assert complete_path("complete-me:/x") == []
        assert ".hidden" not in complete_path("")
        assert complete_path(".h") == [".hidden"]
        assert complete_path(f"{tmp_path}/c") == [f"{tmp_path}/complete/"]
        assert complete_path("/no/such/") == []
        assert "complete-me" in complete_conversation("comp")
    finally:
        home.remove()
    assert complete_mode("acc") == ["acceptEdits"]
    monkeypatch.setenv("TMUX", f"{tmp_path}/none,1,2")
    assert complete_pane("%") == []
    monkeypatch.setenv("PATH", "/nowhere")
    assert complete_pane("%") == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 seconds"),
        (1.9, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "119 minutes"),
        (7200, "2 hours"),
        (86400 * 2, "2 days"),
        (86400 * 400, "13 months"),
        (86400 * 365 * 3, "3 years"),
    ],
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_how_long_ago() -> None:
    then = datetime.now(UTC) - timedelta(hours=3, minutes=1)
    assert ago(then) == ago(then.isoformat()) == ago(then.replace(tzinfo=None).isoformat()) == "3 hours ago"
    for none in (None, "", "yesterday", "2026-13-01"):
        assert ago(none) == "-"


def test_times_to_sleep() -> None:
    """covers: B7"""
    for text, seconds in {"90": 90, "90s": 90, "10m": 600, "1.5h": 5400, "2d": 172_800, "0": 0}.items():
        assert parse_times(sleep_after=text, stop_after="") == {"sleep_after": seconds}
    for text in ("soon", "-1", "10 m", "1w", "1e3", "m"):
        with pytest.raises(InvalidInput, match="--stop-after"):
            parse_times(stop_after=text)
