"""What local instances have in memory, and what instances have cost, each asked for once for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import InvalidInput

__all__ = ["costs", "memory_of"]


def memory_of(pipes: dict[str, Path], proc: Path = Path("/proc")) -> dict[str, int]:
    """Bytes (PSS) of local instances' agents and all that they have started; without those that do not run.

    Args:
        pipes: by instance, the directory of its pipes, which its agent's command line names.
    """
    children: dict[int, list[int]] = {}
    agents: dict[int, str] = {}
    names = {os.fsencode(path): name for name, path in pipes.items()}
    for pid, parent, words in _processes(proc):
        children.setdefault(parent, []).append(pid)
        if b"serve" in words and b"--pipes" in words[:-1] and (name := names.get(words[words.index(b"--pipes") + 1])):
            agents[pid] = name
    found: dict[str, int] = {}
    for pid, name in agents.items():
        found[name] = found.get(name, 0) + sum(_pss(proc, item) for item in _tree(pid, children))
    return {name: size for name, size in found.items() if size}


def costs() -> Callable[[str], float | None]:
    """US dollars of an instance, by the accounts of the fleet ``main``; None: it has had no turn there."""
    from ..fleet.accounts import Accounts
    from ..state import state_root

    directory = state_root() / "fleets" / "main" / "accounts"
    if not directory.is_dir():
        return lambda name: None
    try:
        accounts = Accounts(directory, read_only=True)
    except InvalidInput:
        return lambda name: None

    def cost(name: str) -> float | None:
        used = accounts.total(instance=name)
        return round(used.cost_usd, 4) if used.turns else None

    return cost


def _processes(proc: Path) -> Iterator[tuple[int, int, list[bytes]]]:
    """Each process, its parent, and its command line; see proc(5)."""
    with suppress(OSError):
        for name in os.listdir(proc):
            with suppress(OSError, ValueError, IndexError):  # it has ended, or is none
                pid = int(name)
                parent = int((proc / name / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                yield pid, parent, (proc / name / "cmdline").read_bytes().split(b"\0")


def _tree(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    seen, left = set(), [pid]
    while left:
        if (item := left.pop()) not in seen:
            seen.add(item)
            yield item
            left += children.get(item, [])


def _pss(proc: Path, pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
