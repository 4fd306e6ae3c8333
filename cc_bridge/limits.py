"""What a container may use, unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a container may use of its machine (requirement M2).

    Attributes:
        memory: bytes; swap is not added to it.
        cpus: processors, also parts of one.
        cpu_shares: weight where processors are scarce; 1024 is what other containers have.
        pids: processes and threads at once.
    """

    memory: int = 2 * 1024**3
    cpus: float = 2.0
    cpu_shares: int = 512
    pids: int = 512
