"""The engine's event stream: what happens to containers, mainly how they end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anyio

from ..errors import EngineTimeout, EngineUnavailable
from .client import OPERATION_LIMIT, Engine
from .labels import label_filter

__all__ = ["ContainerEvent", "EventReader", "Events"]

#: Seconds before the stream is reopened after an error; the last is repeated.
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)

#: Containers whose earlier events are remembered.
_REMEMBERED = 1000


@dataclass(frozen=True)
class ContainerEvent:
    """Something that happened to a container.

    Attributes:
        action: the engine's word: ``create``, ``start``, ``die``, ``oom``, ``kill``, ``destroy`` ...
        time: seconds since 1970.
        exit_code: of a ``die``.
        oom_killed: of a ``die``: an ``oom`` event came before it.
        asked_for: of a ``die``: a request to the engine ended it.
    """

    action: str
    id: str
    name: str
    time: float
    labels: Mapping[str, str]
    exit_code: int | None = None
    oom_killed: bool = False
    asked_for: bool = False

    @property
    def is_unexpected_exit(self) -> bool:
        """It ended with an error, without a request."""
        return self.action == "die" and self.exit_code != 0 and not self.asked_for


class EventReader:
    """Parses the engine's messages; sans-I/O. It remembers the events before a container's end."""

    def __init__(self) -> None:
        self._before: dict[str, set[str]] = {}

    def read(self, raw: Mapping[str, Any]) -> ContainerEvent:
        """Parse a message."""
        actor = raw.get("Actor") or {}
        attributes = {str(key): str(value) for key, value in (actor.get("Attributes") or {}).items()}
        id, action = str(actor.get("ID") or raw.get("id") or ""), str(raw.get("Action", ""))  # noqa: A001
        action = "die" if action == "died" else action  # Podman's word
        before = self._before.get(id, set())
        code = attributes.get("exitCode") or attributes.get("containerExitCode")
        event = ContainerEvent(
            action=action,
            id=id,
            name=attributes.get("name", ""),
            time=int(raw.get("timeNano") or 0) / 1e9 or float(raw.get("time") or 0),
            labels={key: value for key, value in attributes.items() if key not in ("name", "image", "exitCode")},
            exit_code=int(code) if action == "die" and code is not None else None,
            oom_killed=action == "die" and "oom" in before,
            asked_for=action == "die" and "kill" in before,
        )
        if action in ("oom", "kill"):
            self._remember(id, action)
        elif action in ("start", "destroy", "die"):
            self._before.pop(id, None)
        return event

    def _remember(self, id: str, action: str) -> None:  # noqa: A002
        self._before.setdefault(id, set()).add(action)
        if len(self._before) > _REMEMBERED:
            self._before.pop(next(iter(self._before)))


class Events:
    """The engine's events."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def watch(self, labels: Mapping[str, str]) -> AsyncGenerator[ContainerEvent, None]:
        """Events of containers with all these labels, from now on.

        After a broken connection or a restart of the engine it continues where it was.

        Raises:
            EngineError: the engine refuses, or cannot be reached at first.
        """
        client = await self._engine.client()
        wanted = {"type": "container", "label": label_filter(labels)}
        reader, since, last, breaks = EventReader(), time.time(), "", 0

        def read() -> Generator[dict[str, Any]]:
            # Not the SDK's method, which has a read timeout: a quiet engine is not an error.
            import docker.utils

            params = {"since": f"{since:.9f}", "filters": docker.utils.convert_filters(wanted)}
            answer = client.api.get(
                client.api._url("/events"), params=params, stream=True, timeout=(OPERATION_LIMIT, None)
            )
            with answer:
                client.api._raise_for_status(answer)
                yield from client.api._stream_helper(answer, decode=True)

        while True:
            try:
                async with aclosing(self._engine.stream(read)) as received:
                    async for raw in received:
                        key = f"{raw.get('timeNano')} {raw.get('Action')} {(raw.get('Actor') or {}).get('ID')}"
                        if key == last:
                            continue  # seen before the connection broke
                        event = reader.read(raw)
                        since, last, breaks = event.time or since, key, 0
                        yield event
            except (EngineUnavailable, EngineTimeout):
                if breaks >= 10 * len(_PAUSES):
                    raise
            await anyio.sleep(_PAUSES[min(breaks, len(_PAUSES) - 1)])  # back-off
            breaks += 1
