"""A conversation that outlives its container and all that it had on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import ClaudeInstance, DockerContainer, Prompt, TextDelta, Turn, Verdict, Waiting
from cc_bridge.channels.base import Channel
from cc_bridge.instances.container_place import ContainerPlace
from cc_bridge.instances.conversation_copy import ConversationCopy
from cc_bridge.logs import Log
from cc_bridge.testing import ScriptedModel
from tests.conftest import ImageNames

pytestmark = [pytest.mark.anyio, pytest.mark.docker]


class Movable(DockerContainer):
    """Its conversation is copied after each turn, and put into a container that lacks it."""

    _place: ContainerPlace

    def __init__(self, record: ClaudeInstance, directory: Path) -> None:
        super().__init__(record)
        self.copies = ConversationCopy(directory, Log(record.name, "docker"))
        self.restored = 0
        connect = self._place.connect

        async def connect_and_restore(greeting: bytes) -> Channel:
            channel = await connect(greeting)
            place = self._place
            session = self._bridge.session_id
            self.restored += await self.copies.restore(place.execs, place.container, session, place.cwd)
            return channel

        self._place.connect = connect_and_restore  # type: ignore[method-assign]

    async def submit(self, prompt: Prompt, id: str | None = None) -> Turn:  # noqa: A002
        """Nothing is given to an agent that has gone since: it would not be known whether it ran."""
        if self._bridge.active is None:
            await self._bridge.make_ready()
        return await super().submit(prompt, id)

    async def tell(self, text: str) -> None:
        ok, said = await self.send_command_and_wait(text, 60)
        assert ok, said
        place = self._place
        assert await self.copies.copy(place.execs, place.container, self._bridge.session_id, place.cwd)

    async def run(self, *argv: str) -> str:
        return (await self._place.execs.run(self._place.container, argv)).stdout.decode()

    async def lose_all(self) -> None:
        """The container is gone, with its home and the agent's state."""
        await self._place._containers.remove(self._place.container)
        for directory in (self._home.claude_home, self._home.journal):
            shutil.rmtree(directory)


@pytest.fixture
async def instance(
    make_record: Callable[..., ClaudeInstance], scripted_model: ScriptedModel, images: ImageNames, tmp_path: Path
) -> AsyncIterator[Movable]:
    fields: Any = {"image": images.claude, "network": "host", "env": scripted_model.claude_env()}
    made = Movable(make_record(kind="docker", ephemeral=False, **fields), tmp_path / "copy")
    yield made
    await made.remove(conversation=True)
    await made.cleanup()


async def test_it_goes_on_in_a_new_container(instance: Movable, scripted_model: ScriptedModel) -> None:
    """covers: B11"""
    subagent = {"description": "d", "prompt": "words of the subagent", "subagent_type": "general-purpose"}
    await instance.tell(f"the first words [[tool Task {json.dumps(subagent)}]] [[say done]]")
    large = json.dumps({"command": "seq 1 60000", "description": "d"})
    await instance.tell(f"the second words [[tool Bash {large}]] [[say counted]]")
    names = [*instance.copies._files.index().files]
    assert [name.rpartition("/")[0] for name in names[1:]] == ["session/subagents"] * 2 + ["session/tool-results"]
    session = (await instance.get_info())["session_id"]
    await instance.lose_all()
    await instance.tell("the third words")
    assert instance.restored == 1
    heard = json.dumps(scripted_model.requests[-1].body["messages"])
    assert all(f"the {number} words" in heard for number in ("first", "second", "third"))
    assert (await instance.get_info())["session_id"] == session
    assert await instance.run("sh", "-c", "tail -n 1 ~/.claude/projects/*/*/tool-results/*") == "60000\n"
    assert await instance.run("sh", "-c", "stat -c %U ~/.claude/projects/*/*.jsonl") == await instance.run("id", "-un")
    await instance.restart()
    await instance.tell("the fourth words")
    assert instance.restored == 1, "the container had all of it"


async def test_what_the_lost_one_had_does_not_run_again(instance: Movable, scripted_model: ScriptedModel) -> None:
    """One turn runs and one waits there: both end, with a cause; the next one goes on."""
    await instance.tell("the first words")
    running = await instance.submit("[[say well]] [[hang]]")
    async for event in running:
        if isinstance(event, TextDelta):
            break
    waiting = await instance.submit("the words that waited")
    async for event in waiting:
        if isinstance(event, Waiting):
            break
    await instance.lose_all()
    assert (await running.result()).verdict is Verdict.INTERRUPTED
    result = await waiting.result()
    assert result.verdict is Verdict.INTERRUPTED
    assert "may have run" in result.error
    await instance.tell("the last words")
    heard = json.dumps(scripted_model.requests[-1].body["messages"])
    assert "the first words" in heard
    assert "that waited" not in heard
