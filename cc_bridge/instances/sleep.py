"""Putting an idle Claude Code to sleep, beside its conversation."""

from __future__ import annotations

import anyio

from ..bridge.connection import Connection, this_program
from ..channels.named_pipe import NobodyListens
from ..errors import AgentUnavailable, ContainerNotFound, ContainerNotRunning, InstanceBusy, InvalidInput
from ..protocol.link import AgentRefused, Asleep, Exited, Link
from .place import NoAgentPossible, Place

__all__ = ["put_to_sleep"]

#: Seconds for Claude Code to end: the agent gives it 15.
_LIMIT = 30.0

#: Characters of the agent's reason: some of it is the model's own words.
_LONGEST_REASON = 500


async def put_to_sleep(place: Place) -> None:
    """Ask the agent to end Claude Code if it is idle; nothing to do, and nothing started, where none runs.

    Raises:
        InstanceBusy: it is not idle.
        InvalidInput: a person may look at it, or there is no agent that could do it.
        AgentUnavailable, ConnectionLost: it does not react.
        EngineError: of the container nothing can be learned.
    """
    name = place.name
    if place.record.in_pane:
        hint = f"`cc-bridge stop {name}` ends it."
        raise InvalidInput("a person may look at its pane, so it does not sleep", instance=name, hint=hint)
    if place.lease is None and not place.home.exists():
        return  # it was never started: with a lease, another machine may have
    try:
        connection = await Connection.open(Link(host=this_program(), looks=True), place.way_to_look, name)
    except (NobodyListens, ContainerNotFound, ContainerNotRunning):
        return
    except NoAgentPossible:
        what = "its image has no Python for an agent, so it cannot sleep"
        raise InvalidInput(what, instance=name, hint=f"`cc-bridge stop {name}` ends it.") from None
    try:
        if connection.hello.sleep_after is None:
            hint = f"`cc-bridge restart {name}` starts one of this release."
            raise InvalidInput("its agent is of a release that cannot put it to sleep", instance=name, hint=hint)
        connection.link.put_to_sleep()
        await connection.write()
        deadline = anyio.current_time() + _LIMIT
        while (events := await connection.receive(deadline)) is not None:
            for event in events:
                match event:
                    case Exited() | Asleep():
                        place.log.info("asleep")
                        return
                    case AgentRefused("busy", reason):
                        what = f"it is not idle: {reason[:_LONGEST_REASON]}"
                        raise InstanceBusy(what, instance=name, hint=f"`cc-bridge stop {name}` ends it all the same.")
    finally:
        await connection.aclose()
    raise AgentUnavailable("Claude Code did not end when it was to sleep", instance=name)
