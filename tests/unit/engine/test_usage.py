"""Counters to numbers, for both versions of control groups and for none. covers: M10"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.engine.usage import usage_of

BUSY: dict[str, Any] = {
    "cpu_stats": {"cpu_usage": {"total_usage": 3_000}, "system_cpu_usage": 20_000, "online_cpus": 4},
    "precpu_stats": {"cpu_usage": {"total_usage": 1_000}, "system_cpu_usage": 12_000},
    "memory_stats": {"usage": 1_000, "limit": 4_000, "stats": {"total_inactive_file": 300}},
    "pids_stats": {"current": 7},
    "networks": {"eth0": {"rx_bytes": 5, "tx_bytes": 6}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
}


def test_numbers() -> None:
    usage = usage_of(BUSY)
    assert usage.cpu_percent == 100.0, "a quarter of four processors is one, kept busy"
    assert (usage.memory, usage.memory_limit, usage.pids) == (700, 4_000, 7)
    assert (usage.received, usage.sent) == (15, 26)


def test_the_other_version_of_control_groups() -> None:
    memory = {"usage": 1_000, "limit": 4_000, "stats": {"inactive_file": 100}}
    assert usage_of({**BUSY, "memory_stats": memory}).memory == 900


@pytest.mark.parametrize("raw", [{}, {"cpu_stats": {}, "memory_stats": {}}, {"networks": None, "memory_stats": None}])
def test_a_container_that_does_not_run(raw: dict[str, Any]) -> None:
    usage = usage_of(raw)
    assert (usage.cpu_percent, usage.memory, usage.memory_limit) == (0.0, 0, 0)


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**15))
def test_never_negative(used: int, before: int, cached: int, memory: int) -> None:
    raw = {
        "cpu_stats": {"cpu_usage": {"total_usage": used}, "system_cpu_usage": 10},
        "precpu_stats": {"cpu_usage": {"total_usage": before}},
        "memory_stats": {"usage": memory, "stats": {"inactive_file": cached}},
    }
    usage = usage_of(raw)
    assert usage.cpu_percent >= 0
    assert 0 <= usage.memory <= memory


def cpu(total: int, system: int, **more: Any) -> dict[str, Any]:
    return {"cpu_usage": {"total_usage": total, **more.pop("usage", {})}, "system_cpu_usage": system, **more}


@pytest.mark.parametrize(
    ("now", "before", "percent"),
    [
        (cpu(3000, 20_000, online_cpus=4), cpu(1000, 12_000), 100.0),
        (cpu(3000, 20_000, online_cpus=1), cpu(1000, 12_000), 25.0),
        (cpu(3000, 20_000), cpu(1000, 12_000), 25.0),
        (cpu(3000, 20_000, usage={"percpu_usage": [1, 2]}), cpu(1000, 12_000), 50.0),
        (cpu(3000, 20_000, online_cpus=3, usage={"percpu_usage": [1, 2]}), cpu(1000, 12_000), 75.0),
        (cpu(1001, 30_000), cpu(1000, 0), 0.0),
        (cpu(1002, 30_000), cpu(1000, 0), 0.01),
        (cpu(1000, 2), cpu(999, 1), 100.0),
        (cpu(1000, 20_000), {}, 5.0),
        (cpu(1000, 20_000), cpu(1000, 12_000), 0.0),
        (cpu(1000, 12_000), cpu(500, 12_000), 0.0),
        (cpu(1000, 12_000), cpu(2000, 11_000), 0.0),
        (cpu(1000, 12_000), cpu(500, 13_000), 0.0),
    ],
)
def test_time_used_of_the_time_that_passed(now: dict[str, Any], before: dict[str, Any], percent: float) -> None:
    assert usage_of({"cpu_stats": now, "precpu_stats": before}).cpu_percent == percent


@pytest.mark.parametrize(("cached", "memory"), [(0, 100), (1, 99), (99, 1), (100, 100), (101, 100)])
def test_what_the_kernel_would_give_back_is_not_used(cached: int, memory: int) -> None:
    """Unless it claims that this is all, or more."""
    assert usage_of({"memory_stats": {"usage": 100, "stats": {"inactive_file": cached}}}).memory == memory


def test_where_nothing_is_measured_all_is_nought() -> None:
    usage = usage_of({"networks": {"eth0": {}}, "pids_stats": {"current": None}})
    assert (usage.pids, usage.received, usage.sent, usage.memory_limit) == (0, 0, 0, 0)
