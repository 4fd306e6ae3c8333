"""A small chat backend: any number of conversations in one fleet, of which a few are awake.

    python examples/fleet.py

Each line on stdin says something to somebody (``ann: What is in this directory?``) or answers a permission request
(``allow 1``, ``deny 1``). Answers stream to stdout as they come. At the end of stdin (Ctrl-D) what still runs is waited
for; the conversations stay, and go on when the program is started again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import anyio.abc

from cc_bridge import Allow, BridgeError, ClaudeInstance, Deny, InstanceInterface, TextDelta, TurnResult, name_for
from cc_bridge.fleet import Asked, Decided, Fleet, Missed, Moot, OpenRequest
from cc_bridge.turn import Turn


class Screen:
    """Prints what several say at once: a new line whenever somebody else speaks."""

    def __init__(self) -> None:
        self._speaker = ""

    def show(self, speaker: str, text: str) -> None:
        # A model wrote it: without control characters it can do nothing to a terminal.
        text = "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)
        if speaker != self._speaker:
            text = f"\n{speaker}: {text}"
        self._speaker = speaker
        print(text, end="", flush=True)


class Chat:
    """What people say to their conversations, and what waits at the desk."""

    def __init__(self, fleet: Fleet, screen: Screen) -> None:
        self._fleet = fleet
        self._screen = screen
        self._requests: dict[str, str] = {}  # ids, by the number that is typed
        self._asked = 0

    async def read_lines(self, answers: anyio.abc.TaskGroup) -> None:
        """Until the end of stdin."""
        async for line in anyio.wrap_file(sys.stdin):
            who, _, text = line.strip().partition(":")
            try:
                if text:
                    turn = await self._instance(who).submit(text.strip())  # in the order of the lines
                    answers.start_soon(self._show, who, turn)
                elif who:
                    self._answer(*who.split(" ", 1))
            except BridgeError as error:
                self._screen.show("error", f"{error}\n")

    def _instance(self, who: str) -> InstanceInterface:
        name = name_for(f"chat-{who}")
        workspace = Path("chats", name)
        workspace.mkdir(parents=True, exist_ok=True)
        return self._fleet.adopt(ClaudeInstance.of(name=name, kind="local", workspace=workspace))

    async def _show(self, who: str, turn: Turn) -> None:
        try:
            async for event in turn:
                if isinstance(event, TextDelta):
                    self._screen.show(who, event.text)
                elif isinstance(event, TurnResult) and not event.ok:
                    self._screen.show(who, f"[{event.verdict.value}: {event.error}]")
        except BridgeError as error:
            self._screen.show("error", f"{error}\n")

    async def watch_the_desk(self) -> None:
        """Show what needs a decision."""
        async for event in self._fleet.desk.watch():
            match event:
                case Asked(request):
                    self._ask(request)
                case Missed():
                    for request in self._fleet.desk.open():
                        self._ask(request)
                case Decided(id) | Moot(id):
                    self._requests = {number: other for number, other in self._requests.items() if other != id}

    def _ask(self, request: OpenRequest) -> None:
        self._asked += 1
        self._requests[str(self._asked)] = request.id
        what = f"{request.instance} wants {request.tool_name} {request.input}"
        self._screen.show("desk", f"{what} (allow {self._asked}, deny {self._asked})\n")

    def _answer(self, word: str, number: str = "") -> None:
        if word not in ("allow", "deny") or number not in self._requests:
            self._screen.show("error", "say `NAME: TEXT`, or `allow N` or `deny N` for what is asked\n")
            return
        self._fleet.desk.answer(self._requests[number], Allow() if word == "allow" else Deny("Not now."), by="stdin")


async def main() -> None:
    async with Fleet(most_awake=8) as fleet, anyio.create_task_group() as watching:
        chat = Chat(fleet, Screen())
        watching.start_soon(chat.watch_the_desk)
        async with anyio.create_task_group() as answers:
            await chat.read_lines(answers)
        watching.cancel_scope.cancel()
    print()


anyio.run(main)
