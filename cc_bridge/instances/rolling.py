"""Another image for an instance of a swarm, without losing a turn or the conversation."""

from __future__ import annotations

from contextlib import suppress

import anyio

from ..errors import BridgeError, PlacementFailed
from .drain import when_idle
from .swarm_service import SwarmService

__all__ = ["renew_image"]


async def renew_image(instance: SwarmService, image: str, limit: float) -> None:
    """Have another image once the instance is idle, and see that it answers; one that was stopped is stopped again.

    Where it does not, it has the image of before again, and the next command is answered as before.

    Args:
        limit: seconds to wait while it is busy.

    Raises:
        InstanceBusy: it still is; nothing was changed.
        BridgeError: why it does not answer.
    """
    before, was_running = instance.record.image, await instance.is_running()
    await when_idle(instance, lambda: instance.change_image_if_idle(image), anyio.current_time() + limit)
    try:
        await instance.start()
    except BridgeError:
        with suppress(PlacementFailed):  # as the start before it
            await instance.stop()
        await instance.change_image_if_idle(before)
        raise
    if not was_running:
        await instance.stop()
