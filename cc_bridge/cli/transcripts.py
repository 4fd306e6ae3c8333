"""A conversation from its transcript, for the verbs that show it. Nothing is started to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BridgeError
from ..instances.conversations import read_conversation

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..instances.bridged import BridgedInstance
    from ..protocol.transcript import Said

__all__ = ["prompts"]


async def prompts(
    instance: BridgedInstance, *, turns: Collection[str] | None, last: int | None, longest: int | None
) -> dict[str, Said]:
    """The prompts of a conversation by their turns' ids, in order; none where it cannot be had.

    Args:
        turns: only of these; None: of all.
        last: how many, the latest; None: all.
        longest: characters of each; None: all.
    """
    found: dict[str, Said] = {}

    def take(said: Said) -> None:
        wanted = said.kind == "prompt" and (turns is None or said.turn in turns)
        if wanted and said.turn not in found:
            found[said.turn] = said.replace(text=said.text[:longest])
            if last is not None and len(found) > last:
                del found[next(iter(found))]

    try:
        await read_conversation(instance, take)
    except BridgeError:
        pass  # no conversation yet, or it is in a container that does not run
    return found
