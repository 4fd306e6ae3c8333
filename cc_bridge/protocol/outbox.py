"""What is to be carried out, and what of it the agent has not answered: that is said again after a reconnect."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from .commands import Command, DeclareDone, SendInput, control_id, is_control
from .remembered import drop_oldest

__all__ = ["Outbox"]


class Outbox:
    """Commands on their way to the agent.

    Attributes:
        controls: how many names of control messages were given; a name is given once.
    """

    def __init__(self, controls: int = 0) -> None:
        self.controls = controls
        self._commands: list[Command] = []
        self._untaken: dict[str, SendInput] = {}  # given out, and not yet answered by the agent
        self._undeclared: dict[str, None] = {}  # turns of whose end the agent has not confirmed to know

    def add(self, *commands: Command) -> None:
        """To be carried out, after what is to be already."""
        self._commands += commands

    def next_control(self) -> int:
        """A number for a name that no control message has had."""
        self.controls += 1
        return self.controls

    def add_control(self, message: dict[str, Any], turn_id: str = "") -> None:
        """A control message: about a request of Claude Code's, or a request to it."""
        number = self.next_control()
        name = message.get("request_id") or message["response"]["request_id"]
        self.add(SendInput(control_id(number, name), message, turn_id))

    def take(self) -> list[Command]:
        """What to carry out now, in order. An agent that never answers does not fill the memory."""
        commands, self._commands = self._commands, []
        self._untaken.update({item.input_id: item for item in commands if isinstance(item, SendInput)})
        self._undeclared.update({item.input_id: None for item in commands if isinstance(item, DeclareDone)})
        drop_oldest(self._untaken)
        drop_oldest(self._undeclared)
        return commands

    def hold_back(self) -> None:
        """Inputs that begin turns are not given out now, but with what is sent again."""
        held = [item for item in self._commands if isinstance(item, SendInput) and not is_control(item.input_id)]
        self._commands = [item for item in self._commands if item not in held]
        self._untaken.update({item.input_id: item for item in held})

    def drop_inputs(self) -> list[str]:
        """The inputs that are about to be sent, which are not any more."""
        dropped = self.inputs
        self._commands = [command for command in self._commands if not isinstance(command, SendInput)]
        return dropped

    def put_back(self, commands: Iterable[Command]) -> None:
        """What could not be carried out, and still is to be."""
        self._commands[:0] = commands

    @property
    def inputs(self) -> list[str]:
        """The inputs that are about to be sent."""
        return [command.input_id for command in self._commands if isinstance(command, SendInput)]

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Turns of whose end the agent was told, and has not confirmed it."""
        return tuple(self._undeclared)

    def answered(self, input_id: str) -> None:
        """The agent has said what becomes of an input: it is not sent again."""
        self._untaken.pop(input_id, None)

    def declared(self, turn_id: str) -> None:
        """The agent knows that this turn was seen to its end."""
        self._undeclared.pop(turn_id, None)

    def keep_only(self, input_ids: Container[str]) -> None:
        """All other inputs are not sent again, whatever the agent answers."""
        self._untaken = {name: item for name, item in self._untaken.items() if name in input_ids}

    def declare_again(self) -> None:
        """The agent may not have heard of the ends of turns."""
        self.add(*[DeclareDone(turn_id) for turn_id in self._undeclared])
        self._undeclared.clear()

    def send_again(self, given_up: Container[str]) -> list[str]:
        """The agent may not have got what it has not answered; that goes first, but for what was given up.

        Returns:
            The ids of these inputs.
        """
        again = [item for item in self._untaken.values() if item.input_id not in given_up]
        self._untaken.clear()
        self.put_back(again)
        return [item.input_id for item in again]
