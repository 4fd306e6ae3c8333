"""``cc-bridge network``: what an instance whose key is outside has asked for."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import anyio

from ..errors import InstanceNotFound
from . import options as o
from .parameters import Option
from .session import run_async

__all__ = ["network", "print_records"]

_HEADINGS = ["TIME", "REQUEST", "STATUS", "SENT", "RECEIVED", "TOKENS", "USD", "SECONDS", "REFUSED"]


def network(
    name: o.Name,
    follow: Annotated[bool, Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    tail: Annotated[int | None, Option("--tail", "-n", metavar="N", min=0, help="The last N requests.")] = None,
    as_json: o.Json = False,
) -> None:
    """Show the requests that came out of an instance whose key is outside, and those that were refused.

    Never a body, and never a key. It goes with the instance.
    """
    from ..instances.registry import Registry
    from ..proxy.journal import network_file, records
    from .display import print_json
    from .harmless import plain
    from .tables import print_table

    async def main() -> int:
        registry = Registry()
        try:
            path = network_file(registry.root, name)
        except ValueError:
            raise InstanceNotFound(f"there is no instance {name!r}") from None
        if not path.exists():
            registry.load(name)  # which says that there is none
        lines = _Lines(path) if follow else None
        kept = deque(records(path), maxlen=tail)
        if lines is None and as_json:
            print_json(list(kept))
        elif lines is None:
            if kept:
                print_table(_HEADINGS, [_row(item) for item in kept])
        else:

            def show(item: dict[str, Any]) -> None:
                if as_json:
                    print_json(item, lines=True)
                else:
                    print(plain("  ".join(cell for cell in _row(item) if cell != "-")), flush=True)

            for item in kept:
                show(item)
            with lines:
                await lines.each(show)
        return 0

    run_async(main)


async def print_records(
    found: list[dict[str, Any]], tail: int | None, line: Callable[[dict[str, Any]], str], *, as_json: bool
) -> None:
    """The last of some records, a line each, or as a JSON document."""
    from .display import print_json

    found = found[max(0, len(found) - tail) :] if tail is not None else found
    if as_json:
        print_json(found)
    else:
        for item in found:
            print(line(item))
    sys.stdout.flush()


def _row(item: dict[str, Any]) -> list[str]:
    from .stats import human

    def number(key: str) -> float:
        value = item.get(key)
        return value if isinstance(value, int | float) else 0

    when = datetime.fromtimestamp(number("time"), UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    tokens = number("input_tokens") + number("output_tokens")
    return [
        when,
        f"{item.get('method')} {item.get('host')}{item.get('path', '')}",
        str(item.get("status") or "-"),
        human(number("sent")),
        human(number("received")),
        f"{tokens:,.0f}" if tokens else "-",
        f"${number('usd'):.4f}" if number("usd") else "-",
        f"{number('seconds'):.1f}",
        str(item.get("refused") or "-"),
    ]


class _Lines:
    """What is appended to a file, as it is, also when the next file begins."""

    def __init__(self, path: Path) -> None:
        from cc_bridge_agent.pane.inotify import Watcher

        from ..state import make_private

        make_private(path.parent)
        self._path = path
        self._watcher = Watcher()
        self._watcher.watch(str(path.parent))
        self._file: BinaryIO | None = self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.close()
        if self._file is not None:
            self._file.close()

    async def each(self, show: Callable[[dict[str, Any]], None]) -> None:
        """Show each as it comes."""
        while True:
            for item in self._new():
                show(item)
            await anyio.wait_readable(self._watcher.fd)
            for _ in self._watcher.read():
                pass  # another instance's, perhaps: looking costs little

    def _new(self) -> Iterator[dict[str, Any]]:
        yield from self._rest()
        newest = self._open()
        if newest is None:
            return
        if self._file and os.path.samestat(os.fstat(newest.fileno()), os.fstat(self._file.fileno())):
            newest.close()
            return
        if self._file is not None:
            yield from self._rest()  # written before it was put aside
            self._file.close()
        self._file = newest
        yield from self._rest()

    def _rest(self) -> Iterator[dict[str, Any]]:
        from ..proxy.journal import as_record

        while self._file is not None and (line := self._file.readline()):
            if not line.endswith(b"\n"):
                self._file.seek(-len(line), os.SEEK_CUR)
                return
            if (found := as_record(line)) is not None:
                yield found

    def _open(self) -> BinaryIO | None:
        try:
            return open(self._path, "rb")
        except FileNotFoundError:
            return None
