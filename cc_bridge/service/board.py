"""What all instances do, for whoever watches: the fleet's word, the desk's, the inbox's and the titles, in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from ..errors import BridgeError
from ..fleet import Changes, Fleet, Missed
from .inbox import Inbox

__all__ = ["Board"]


#: How labels begin that are the fleet's own.
_OURS = "cc-bridge."


class Board:
    """The state of each instance as clients see it, and who watches.

    Args:
        titles: what people call the instances; kept up to date by :meth:`retitle`.
    """

    def __init__(self, fleet: Fleet, titles: Mapping[str, str]) -> None:
        self._fleet = fleet
        self._titles = dict(titles)
        self._watchers: WeakSet[Changes] = WeakSet()
        self.inbox: Inbox | None = None

    def shown(self, name: str) -> dict[str, Any]:
        """An instance, as JSON.

        Raises:
            InstanceNotFound: there is none.
            InvalidInput: its record cannot be read.
        """
        record, state = self._fleet.open(name).record, self._fleet.state(name)
        commands = self.inbox.waiting(name) if self.inbox is not None else []
        asked = self._fleet.desk.open(name)
        busy = state.turn is not None or bool(commands)
        return {
            "name": name,
            "title": self._titles.get(name, ""),
            "kind": record.kind,
            "project": record.project,
            "labels": {name: value for name, value in record.labels.items() if not name.startswith(_OURS)},
            "created": record.created.isoformat(),
            "state": "permission" if asked else "busy" if busy else state.state,
            "turn": state.turn or (commands[0].id if commands else None),
            "waiting": max(len(commands) - 1, state.waiting, 0),
            "permissions": [request.id for request in asked],
        }

    def project(self, name: str) -> str:
        """Of an instance. Raises as :meth:`shown`."""
        return self._fleet.open(name).record.project

    def retitle(self, name: str, title: str) -> None:
        """People call it something else now; empty: by its name."""
        self._titles[name] = title
        self.tell(name)

    def watch(self) -> Changes:
        """The names of instances that are to be shown anew, each once however often it has changed meanwhile."""
        changes = Changes()
        self._watchers.add(changes)
        return changes

    def tell(self, name: str) -> None:
        """Something of this instance is to be shown anew."""
        for changes in list(self._watchers):
            changes.tell(name)

    async def follow_fleet(self) -> None:
        """Pass on what the fleet says, until it ends."""
        async for name in self._fleet.changes():
            self.tell(name)

    async def follow_desk(self) -> None:
        """Pass on what the desk says, until it closes."""
        async for event in self._fleet.desk.watch():
            if isinstance(event, Missed):
                for request in self._fleet.desk.open():
                    self.tell(request.instance)
            else:
                self.tell(event.request.instance if hasattr(event, "request") else event.instance)

    def exists(self, name: str) -> bool:
        """There is an instance of this name whose record can be read."""
        try:
            self._fleet.open(name)
        except BridgeError:
            return False
        return True
