"""Where log records go: to the application's structlog, or to the standard library; never to stdout."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from cc_bridge import logs
from cc_bridge.logs import Log, configure_when_needed


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logs, "_deferred", None)
    yield
    structlog.reset_defaults()


def test_records_go_to_the_standard_library(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log("demo", "local")
    with caplog.at_level(logging.INFO, logger="cc_bridge"):
        log.debug("too_small")
        log.info("agent_started", pid=7)
        log.error("protocol_error")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "event='agent_started' instance='demo' kind='local' pid=7"),
        ("ERROR", "event='protocol_error' instance='demo' kind='local'"),
    ]
    assert capsys.readouterr() == ("", "")


def test_the_applications_structlog_gets_them_whenever_it_was_configured() -> None:
    log = Log("demo", "local")
    with structlog.testing.capture_logs() as records:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        log.warning("fallback", channel="exec")
    assert records == [
        {"event": "fallback", "instance": "demo", "kind": "local", "channel": "exec", "log_level": "warning"}
    ]


def test_structlog_is_set_up_when_something_is_logged() -> None:
    configured: list[bool] = []
    configure_when_needed(logging.WARNING, lambda: configured.append(True))
    log = Log("demo", "local")
    log.info("agent_started")
    assert not configured
    log.warning("connection_lost")
    assert configured == [True]
