"""Which spares there are of which template, and which instances were taken from them. Sans-I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

__all__ = ["Spares"]


class Spares:
    """The table of a pool. An instance that was a spare goes on under a name of its own, its *alias*.

    Args:
        wanted: how many spares there are to be of each template.
    """

    def __init__(self, wanted: Mapping[str, int]) -> None:
        self._wanted = dict(wanted)
        self._ready: dict[str, deque[str]] = {template: deque() for template in wanted}
        self._hidden: set[str] = set()
        self._names: dict[str, str] = {}
        self._aliases: dict[str, str] = {}

    # Spares

    @property
    def ready(self) -> dict[str, int]:
        """How many there are of each template."""
        return {template: len(names) for template, names in self._ready.items()}

    def missing(self, template: str) -> int:
        """How many are to be made; negative: there are too many."""
        return self._wanted[template] - len(self._ready[template])

    def hide(self, name: str) -> None:
        """An instance of this name is nobody's to use: a spare that is being made or removed, or another fleet's."""
        self._hidden.add(name)

    def add(self, template: str, name: str) -> None:
        """It can be taken from now on."""
        self._hidden.add(name)
        self._ready[template].append(name)

    def take(self, template: str) -> str | None:
        """The one that has waited longest; None: there is none. It is hidden until it has an alias, or is gone."""
        return self._ready[template].popleft() if self._ready[template] else None

    def withdraw(self, name: str) -> str:
        """Nobody can take it any more. The template that it is of; empty: nobody could take it."""
        for template, ready in self._ready.items():
            if name in ready:
                ready.remove(name)
                return template
        return ""

    def is_spare(self, name: str) -> bool:
        """It is hidden: a spare, or one that is being made or removed."""
        return name in self._hidden

    # Aliases

    def call(self, name: str, alias: str) -> None:
        """It is an instance as any other, under this name."""
        self._hidden.discard(name)
        self._names[alias], self._aliases[name] = name, alias

    def gone(self, name: str) -> None:
        """There is none of this name any more."""
        self.withdraw(name)
        self._hidden.discard(name)
        self._names.pop(self._aliases.pop(name, ""), None)

    def name_of(self, alias: str) -> str:
        """The name under which it is kept; that of an instance which was no spare is its own."""
        return self._names.get(alias, alias)

    def alias_of(self, name: str) -> str:
        """The name under which it is opened."""
        return self._aliases.get(name, name)

    def listed(self, names: Iterable[str]) -> list[str]:
        """Of the names of all that are kept, those under which instances are opened, sorted; spares are none."""
        return sorted({self.alias_of(name) for name in names if name not in self._hidden})
