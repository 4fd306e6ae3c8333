"""What can be set and asked while Claude Code runs, over one bridge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import anyio.to_thread

from ..errors import InvalidInput, RequestRefused
from ..events import ContextUsage, SlashCommand
from ..protocol.fields import Malformed, text
from ..protocol.reports import context_usage, slash_commands
from ..record import ClaudeInstance
from .chosen import Chosen

__all__ = ["Asked", "Controls"]

AnswerT = TypeVar("AnswerT")

#: Characters of a model's name, or a mode's.
_LONGEST = 200

#: Modes that may be in effect instead of the one that was asked for: they allow no more than any other does.
_STRICT = ("default", "plan")


class Asked(Protocol):
    """Who is asked: a bridge."""

    async def request(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Claude Code's answer."""


class Controls:
    """The model, the permission mode, the slash commands and the context of one instance.

    Args:
        asked: the bridge to its Claude Code.
        chosen: where choices are kept for its next one.
        record: the instance's, as it is now.
    """

    def __init__(self, asked: Asked, chosen: Chosen, record: Callable[[], ClaudeInstance]) -> None:
        self._asked = asked
        self._chosen = chosen
        self._record = record

    async def set_model(self, model: str | None) -> str:
        """See ``InstanceInterface``."""
        if model is not None:
            self._check_word("model", model)
        self._refuse_in_pane("its model", "/model")
        async with self._chosen.exclusive():
            answer = await self._asked.request({"subtype": "set_model", "model": model})
            await self._keep("model", model or "")
        return text(answer, "model") or model or ""

    async def set_permission_mode(self, mode: str) -> str:
        """See ``InstanceInterface``."""
        self._check_word("permission mode", mode)
        self._refuse_in_pane("its permission mode", "Shift-Tab")
        async with self._chosen.exclusive():
            answer = await self._asked.request({"subtype": "set_permission_mode", "mode": mode})
            in_effect = text(answer, "mode") or mode
            if in_effect not in (mode, *_STRICT):  # a container would choose how it is started the next time
                what = f"Claude Code's answer to set_permission_mode, {_shown(in_effect)}, is not what was asked for"
                raise RequestRefused(what, instance=self._record().name)
            await self._keep("permission_mode", in_effect)
        return in_effect

    async def commands(self) -> tuple[SlashCommand, ...]:
        """See ``InstanceInterface``."""
        self._refuse_in_pane("which commands it has", "/help")
        return await self._ask({"subtype": "initialize"}, slash_commands)

    async def context_usage(self, *, exact: bool = False) -> ContextUsage:
        """See ``InstanceInterface``."""
        self._refuse_in_pane("its context", "/context")
        detail = "full" if exact else "summary"
        return await self._ask({"subtype": "get_context_usage", "detail": detail}, context_usage)

    async def _ask(self, request: Mapping[str, Any], read: Callable[[Mapping[str, Any]], AnswerT]) -> AnswerT:
        answer = await self._asked.request(request)
        try:
            return read(answer)
        except Malformed as error:
            what = f"Claude Code's answer to {request['subtype']} is not understood: {error}"
            raise RequestRefused(what, instance=self._record().name) from None

    async def _keep(self, field: str, value: str) -> None:
        await anyio.to_thread.run_sync(self._chosen.keep, self._record().claude, field, value)

    def _check_word(self, what: str, word: object) -> None:
        if not _is_word(word):
            raise InvalidInput(f"{_shown(word)} is no {what}", instance=self._record().name)

    def _refuse_in_pane(self, what: str, key: str) -> None:
        """There is no way to ask the interactive Claude Code but its keys, and what they open waits for a person."""
        if self._record().in_pane:
            hint = f"`cc-bridge attach {self._record().name}` and {key} there do."
            raise InvalidInput(f"in a pane {what} cannot be had from here", instance=self._record().name, hint=hint)


def _is_word(word: object) -> bool:
    return isinstance(word, str) and 0 < len(word) <= _LONGEST and word.isprintable() and word[0] not in " -"


def _shown(word: object) -> str:
    shown = repr(word)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
