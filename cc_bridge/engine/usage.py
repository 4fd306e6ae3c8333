"""A container's resource usage, from the engine's counters. Sans-I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Usage", "usage_of"]


@dataclass(frozen=True)
class Usage:
    """A container's resource usage.

    Attributes:
        cpu_percent: 100 is one fully used processor.
        memory: bytes, without reclaimable page cache (its inactive part).
        memory_limit: bytes.
        received, sent: bytes over its networks.
    """

    cpu_percent: float
    memory: int
    memory_limit: int
    pids: int
    received: int
    sent: int


def usage_of(raw: Mapping[str, Any]) -> Usage:
    """Typed numbers from a ``stats`` message of the engine; zero where a counter is missing.

    The formulas are those of the API's reference ("Get container stats based on resource usage").
    """
    memory, networks = raw.get("memory_stats") or {}, raw.get("networks") or {}
    counters = memory.get("stats") or {}
    idle = int(counters.get("total_inactive_file") or counters.get("inactive_file") or 0)  # cgroup v1, v2
    used = int(memory.get("usage") or 0)
    return Usage(
        cpu_percent=_cpu_percent(raw.get("cpu_stats") or {}, raw.get("precpu_stats") or {}),
        memory=used - idle if idle < used else used,
        memory_limit=int(memory.get("limit") or 0),
        pids=int((raw.get("pids_stats") or {}).get("current") or 0),
        received=sum(int(of.get("rx_bytes") or 0) for of in networks.values()),
        sent=sum(int(of.get("tx_bytes") or 0) for of in networks.values()),
    )


def _cpu_percent(now: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    def total(of: Mapping[str, Any]) -> int:
        return int((of.get("cpu_usage") or {}).get("total_usage") or 0)

    busy = total(now) - total(before)
    passed = int(now.get("system_cpu_usage") or 0) - int(before.get("system_cpu_usage") or 0)
    processors = int(now.get("online_cpus") or 0) or len((now.get("cpu_usage") or {}).get("percpu_usage") or ()) or 1
    return round(busy / passed * processors * 100, 2) if busy > 0 and passed > 0 else 0.0
