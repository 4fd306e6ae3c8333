"""Who watches the service at work: metrics and traces. Where nobody does, nothing is done for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from ..fleet import Heard

if TYPE_CHECKING:
    from fastapi import APIRouter

    from .service import Service
    from .store import Command, Delivery

__all__ = ["Observer", "observed"]


class Observer:
    """Is told what happens, in the event loop, between two steps of it: what it does has to be quick.

    Attributes:
        router: what it answers itself; None: nothing.
    """

    router: APIRouter | None = None

    def begins(self, service: Service) -> None:
        """The service takes commands from now on."""

    async def ends(self) -> None:
        """The service ends; nothing more will be told."""

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application as it is to be called: a middleware, outside of all others."""
        return app

    def accepted(self, command: Command) -> None:
        """A command was stored; called in the task of the request that has brought it."""

    def heard(self, command: Command, heard: Heard) -> None:
        """An event of the command's turn. After a restart of the service the turn is heard from its first event on."""

    def ended(self, command: Command, result: Mapping[str, Any]) -> None:
        """A command goes on no more, and its result is kept."""

    def delivered(self, delivery: Delivery) -> None:
        """A webhook has confirmed a delivery."""


async def observed(
    feed: AsyncGenerator[Heard, None], command: Command, observers: Sequence[Observer]
) -> AsyncGenerator[Heard, None]:
    """The same feed, whose events are told to observers as they come."""
    async with aclosing(feed):
        async for heard in feed:
            for observer in observers:
                observer.heard(command, heard)
            yield heard
