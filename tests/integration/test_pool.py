"""Instances that are ready before anybody wants them, with the real Claude Code. covers: B18"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import Allow, ClaudeOptions, Decision, PermissionRules, TurnResult
from cc_bridge.errors import ClaudeNotFound, InstanceDiffers, InstanceNotFound, InvalidInput, LimitReached
from cc_bridge.fleet import Fleet, OpenRequest, Template
from cc_bridge.fleet import pool as pool_module
from cc_bridge.instances import process_place
from cc_bridge.instances.factory import instance_of
from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel

pytestmark = pytest.mark.anyio

LIMIT = 60.0


@pytest.fixture
async def registry(state_root: Path, tmp_path: Path) -> AsyncIterator[Registry]:
    """Of a test's own, whose instances are all removed when it is over."""
    registry = Registry(state_root)
    yield registry
    with anyio.CancelScope(shield=True):
        for name in registry.names():
            await instance_of(registry.load(name)).remove(conversation=True)
    for agent in process_place._left_running:
        agent.wait(LIMIT)


@pytest.fixture
def template(claude: str, claude_env: dict[str, str]) -> Callable[..., Template]:
    def make(spares: int = 1, **fields: Any) -> Template:
        return Template({"kind": "local", "env": claude_env, **fields}, spares=spares)

    return make


async def until_ready(fleet: Fleet, count: int = 1) -> None:
    """So many spares are ready."""
    with anyio.fail_after(LIMIT):
        while fleet.spares["chat"] != count:
            await anyio.sleep(0.02)


def spares_of(registry: Registry) -> set[str]:
    """Spares that are kept, ready or not, whoever has them by now."""
    return {name for name in registry.names() if name.startswith("spare-")}


async def test_a_new_one_is_ready_and_remembers_only_its_own_conversation(
    registry: Registry, template: Callable[..., Template], scripted_model: ScriptedModel
) -> None:
    async with Fleet(templates={"chat": template(2)}) as fleet:
        await until_ready(fleet, 2)
        spares = spares_of(registry)
        assert (fleet.names(), fleet.awake) == ([], 2)
        ada = await fleet.make_from("chat", "ada", labels={"user": "1"}, project="p")
        bob = await fleet.make_from("chat", "bob")
        assert {ada.name, bob.name} == spares
        assert fleet.names() == ["ada", "bob"]
        for instance, word in ((ada, "apple"), (bob, "berry")):
            assert await instance.send_command_and_wait(f"[[say {word}]]", LIMIT) == (True, word)
        for instance, word in ((ada, "apple"), (bob, "berry")):
            assert await instance.send_command_and_wait("[[say more]]", LIMIT) == (True, "more")
            messages = json.dumps(scripted_model.requests[-1].body["messages"])
            assert [known in messages for known in ("apple", "berry")] == [word == "apple", word == "berry"]
        assert ada.record.workspace != bob.record.workspace
        assert (ada.record.labels["user"], ada.record.project) == ("1", "p")
        assert ada.record.sleep_after is None
        assert await fleet.make_from("chat", "ada", labels={"user": "1"}, project="p") is ada
        with pytest.raises(InstanceDiffers, match="project"):
            await fleet.make_from("chat", "ada", labels={"user": "1"}, project="q")
        await until_ready(fleet, 2)
        assert len(spares_of(registry) - spares) == 2


async def test_it_is_called_by_its_new_name(registry: Registry, template: Callable[..., Template]) -> None:
    """In feeds, at the desk, with its rules, in accounts, and when it is removed."""
    asked: list[str] = []

    async def decide(request: OpenRequest) -> Decision:
        asked.append(request.instance)
        return Allow()

    async with Fleet(name="called", templates={"chat": template()}, on_permission=decide) as fleet:
        await until_ready(fleet)
        ada = await fleet.make_from("chat", "ada", rules=PermissionRules(allow=("Bash(touch allowed)",)))
        assert fleet.open("ada") is fleet.open(ada.name) is ada
        async with aclosing(fleet.feed("ada")) as feed:
            texts = []

            async def listen() -> None:
                async for heard in feed:
                    texts.append(getattr(heard.event, "text", ""))
                    if isinstance(heard.event, TurnResult):
                        break

            with anyio.fail_after(LIMIT):
                async with anyio.create_task_group() as group:
                    group.start_soon(listen)
                    await anyio.wait_all_tasks_blocked()
                    prompt = '[[tool Bash {"command": "touch allowed"}]] [[tool Bash {"command": "touch asked"}]]'
                    await ada.send_command_and_wait(f"{prompt} [[say done]]", LIMIT)
        assert "done" in texts
        assert asked == ["ada"]
        assert fleet.accounts.total(instance="ada").turns == 1
        made = ada.record.workspace
        assert made is not None
        assert {path.name for path in made.iterdir()} >= {"allowed", "asked"}
        await fleet.remove("ada", conversation=True)
        assert not made.exists()
        assert fleet.names() == []
        with pytest.raises(InstanceNotFound):
            fleet.open("ada")


async def test_the_next_fleet_has_the_same_ones(registry: Registry, template: Callable[..., Template]) -> None:
    async with Fleet(templates={"chat": template()}) as fleet:
        await until_ready(fleet)
        ada = await fleet.make_from("chat", "ada")
        assert await ada.send_command_and_wait("[[say apple]]", LIMIT) == (True, "apple")
        await until_ready(fleet)
    before = spares_of(registry)
    async with Fleet(templates={"chat": template()}) as fleet:
        assert (fleet.names(), fleet.spares) == (["ada"], {"chat": 1})
        with anyio.fail_after(LIMIT):
            while fleet.awake != 2:
                await anyio.sleep(0.02)
        assert await fleet.open("ada").send_command_and_wait("[[say again]]", LIMIT) == (True, "again")
        bob = await fleet.make_from("chat", "bob")
        assert {bob.name, ada.name} == before
    async with Fleet(templates={"chat": template(sleep_after=30.0)}) as fleet:  # spares of before are not like that
        await until_ready(fleet)
        with anyio.fail_after(LIMIT):
            while len(spares_of(registry)) != 3:
                await anyio.sleep(0.02)
        assert fleet.names() == ["ada", "bob"]
    async with Fleet() as fleet:
        with anyio.fail_after(LIMIT):
            while spares_of(registry) != before:
                await anyio.sleep(0.02)
        with pytest.raises(InvalidInput, match="there is no template 'chat'"):
            await fleet.make_from("chat", "eve")
        for name in ("ada", "bob"):
            await fleet.remove(name, conversation=True)


async def test_a_spare_that_somebody_has_removed(registry: Registry, template: Callable[..., Template]) -> None:
    async with Fleet(templates={"chat": template()}) as fleet:
        await until_ready(fleet)
        (spare,) = spares_of(registry)
        await instance_of(registry.load(spare)).remove()
        ada = await fleet.make_from("chat", "ada")
        assert ada.name != spare
        assert await ada.send_command_and_wait("[[say apple]]", LIMIT) == (True, "apple")


async def test_it_sleeps_as_its_template_says(registry: Registry, template: Callable[..., Template]) -> None:
    """A spare stays awake, and one that was taken does not."""
    async with Fleet(templates={"chat": template(sleep_after=0.2)}) as fleet:
        await until_ready(fleet)
        await anyio.sleep(0.5)  # more than it would have
        ada = await fleet.make_from("chat", "ada")
        assert fleet.awake >= 1
        with anyio.fail_after(LIMIT):
            while (await ada.get_activity())["activity"] != "asleep":
                await anyio.sleep(0.05)
        assert await ada.send_command_and_wait("[[say awake]]", LIMIT) == (True, "awake")


async def test_no_more_than_there_may_be(registry: Registry, template: Callable[..., Template]) -> None:
    """Spares do not count."""
    async with Fleet(templates={"chat": template()}, most_instances=1) as fleet:
        await until_ready(fleet)
        await fleet.make_from("chat", "ada")
        await until_ready(fleet)
        with pytest.raises(LimitReached, match="as many as there may be"):
            await fleet.make_from("chat", "bob")
        assert fleet.spares == {"chat": 1}


@pytest.mark.docker
async def test_containers(registry: Registry, images: Any, scripted_model: ScriptedModel) -> None:
    """Also measured: by the engine."""
    fields = {"kind": "docker", "image": images.claude, "network": "host", "env": scripted_model.claude_env()}

    async def decide(request: OpenRequest) -> Decision:
        return Allow()

    templates = {"chat": Template(fields, spares=1)}
    async with Fleet(templates=templates, memory=2**30, on_permission=decide) as fleet:
        await until_ready(fleet)
        (spare,) = spares_of(registry)
        ada = await fleet.make_from("chat", "ada")
        assert ada.name == spare
        prompt = '[[tool Write {"file_path": "/workspace/made", "content": "x"}]] [[say apple]]'
        assert (await ada.send_command_and_wait(prompt, LIMIT))[0]
        assert ada.record.workspace is not None
        assert (ada.record.workspace / "made").read_text() == "x"
        assert await ada.send_command_and_wait("[[say more]]", LIMIT) == (True, "more")
        await until_ready(fleet)
        assert fleet.awake == 2
        assert 64 * 1024 * 1024 < fleet.memory_used < 2**30
        await fleet.remove("ada", conversation=True)
        assert spare not in registry.names()


async def test_two_callers_never_get_the_same(registry: Registry, template: Callable[..., Template]) -> None:
    async with Fleet(templates={"chat": template()}) as fleet:
        await until_ready(fleet)
        made: dict[str, str] = {}

        async def make(name: str) -> None:
            made[name] = (await fleet.make_from("chat", name)).name

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                for name in ("ada", "bob", "ada"):
                    group.start_soon(make, name)
        assert len(set(made.values())) == 2
        assert fleet.names() == ["ada", "bob"]


async def test_within_what_may_be_awake(registry: Registry, template: Callable[..., Template]) -> None:
    async with Fleet(templates={"chat": template(2)}, most_awake=2) as fleet:
        await until_ready(fleet, 2)
        ada = await fleet.make_from("chat", "ada")
        bob = await fleet.make_from("chat", "bob")
        for word in ("apple", "berry"):
            for instance in (ada, bob):
                assert await instance.send_command_and_wait(f"[[say {word}]]", LIMIT) == (True, word)
        assert (fleet.awake, fleet.spares) == (2, {"chat": 0})
        eve = await fleet.make_from("chat", "eve")  # for whom somebody sleeps
        assert await eve.send_command_and_wait("[[say cherry]]", LIMIT) == (True, "cherry")
        assert fleet.awake == 2


async def test_spares_go_when_commands_need_their_room(
    registry: Registry, template: Callable[..., Template], make_record: Any, claude_env: dict[str, str]
) -> None:
    async with Fleet(templates={"chat": template(1)}, most_awake=1) as fleet:
        await until_ready(fleet)
        instance = await fleet.make(make_record(env=claude_env))
        assert await instance.send_command_and_wait("[[say mine]]", LIMIT) == (True, "mine")
        assert (fleet.awake, fleet.spares, spares_of(registry) & set(fleet.names())) == (1, {"chat": 0}, set())


async def test_within_memory_that_is_measured(registry: Registry, template: Callable[..., Template]) -> None:
    """No two of them fit. covers: P4"""
    async with Fleet(templates={"chat": template(0)}, memory=64 * 1024 * 1024) as fleet:
        for name in ("ada", "bob"):
            instance = await fleet.make_from("chat", name)
            assert await instance.send_command_and_wait(f"[[say {name}]]", LIMIT) == (True, name)
        assert fleet.awake == 1
        with anyio.fail_after(LIMIT):
            while not fleet.memory_used:
                await anyio.sleep(0.02)
        assert 64 * 1024 * 1024 < fleet.memory_used < 2**30


async def test_a_template_that_fails(
    registry: Registry, template: Callable[..., Template], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """An error for who wants one; the pool says it once, and tries again after a while."""
    monkeypatch.setattr(pool_module, "_PAUSE", 0.01)
    tries = 0
    make = pool_module.Pool._make_spare

    async def counted(self: Any, template: str) -> None:
        nonlocal tries
        tries += 1
        await make(self, template)

    monkeypatch.setattr(pool_module.Pool, "_make_spare", counted)
    with caplog.at_level("WARNING", logger="cc_bridge"):
        async with Fleet(templates={"chat": template(claude=ClaudeOptions(program="no-such-program"))}) as fleet:
            with pytest.raises(ClaudeNotFound, match="no-such-program"):
                await fleet.make_from("chat", "ada")
            with anyio.fail_after(LIMIT):
                while tries < 3:
                    await anyio.sleep(0.02)
            assert fleet.names() == []
    assert len([record for record in caplog.records if "spare_not_made" in record.getMessage()]) == 1
    assert spares_of(registry) == set()
    async with Fleet():  # which removes what the last try has left when its fleet ended
        assert list((registry.root / "workspaces" / "main").iterdir()) == []


def test_templates_that_cannot_be() -> None:
    for fields in ({"kind": "local", "nmae": "x"}, {"kind": "tmux"}, {"kind": "local", "ephemeral": True}, {}):
        with pytest.raises(InvalidInput):
            Template(fields)
    with pytest.raises(InvalidInput, match="fewer than 0"):
        Template({"kind": "local"}, spares=-1)
    with pytest.raises(InvalidInput, match="no name for a template"):
        Fleet(templates={"Not One": Template({"kind": "local"})})


#: A fleet that takes spares, one after the other, and says so.
HOST = """
import json, sys, anyio
from cc_bridge.fleet import Fleet, OpenRequest, Template

async def main():
    fields = json.loads(sys.argv[1])
    async with Fleet(templates={"chat": Template(fields, spares=3)}) as fleet:
        while fleet.spares["chat"] < 3:
            await anyio.sleep(0.02)
        print("ready", flush=True)
        for number in range(3):
            await fleet.make_from("chat", f"taken-{number}")
            print(number, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.parametrize("lines", [1, 2, 3])
async def test_a_fleet_that_is_killed_gives_no_spare_to_two(
    registry: Registry, template: Callable[..., Template], lines: int
) -> None:
    fields = json.dumps(dict(template().fields))
    argv = [sys.executable, "-c", HOST, fields]
    async with await anyio.open_process(argv, stderr=None, stdin=subprocess.DEVNULL) as host:
        assert host.stdout is not None
        try:
            with anyio.fail_after(LIMIT):
                said = b""
                while said.count(b"\n") < lines:
                    said += await host.stdout.receive()
        finally:
            host.send_signal(signal.SIGKILL)
    async with Fleet(templates={"chat": template(3)}) as fleet:
        taken = {name: fleet.open(name).name for name in fleet.names()}
        assert len(taken) >= lines - 1
        assert len(set(taken.values())) == len(taken)
        await until_ready(fleet, 3)
        bob = await fleet.make_from("chat", "bob")
        assert bob.name not in taken.values()
        assert await bob.send_command_and_wait("[[say mine]]", LIMIT) == (True, "mine")
        for name in taken:
            assert await fleet.open(name).send_command_and_wait(f"[[say {name}]]", LIMIT) == (True, name)
