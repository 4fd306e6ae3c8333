"""Sleep with the real Claude Code: what keeps it awake, and what it has when it wakes. covers: B7"""

from __future__ import annotations

import json
import os
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import Allow, ClaudeOptions, DockerContainer, LocalProcess, PermissionRequest, TextDelta, blocking
from cc_bridge.bridge.connection import Connection
from cc_bridge.errors import InstanceBusy, InvalidInput
from cc_bridge.instances.registry import Registry
from cc_bridge.names import new_uuid
from cc_bridge.protocol.link import Link
from cc_bridge.protocol.link_events import Queued
from cc_bridge.protocol.stream_json import user_message
from cc_bridge.testing import Reply, Say, ScriptedModel, Tool
from tests.command import cc

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[LocalProcess]]

#: Seconds within which anything here must be over.
LIMIT = 60.0


async def allow(_: PermissionRequest) -> Allow:
    return Allow()


@pytest.fixture
async def make(
    scripted_model: ScriptedModel, make_record: Callable[..., Any], claude: str, tmp_path: Path
) -> AsyncIterator[Make]:
    made: list[LocalProcess] = []
    (tmp_path / "home").mkdir()

    async def make_one(**fields: Any) -> LocalProcess:
        record = make_record(env=scripted_model.claude_env(tmp_path / "home"), **fields)
        made.append(LocalProcess(record, on_permission=allow))
        return made[-1]

    yield make_one
    for instance in made:
        await instance.cleanup()


def calls(tool: str, **arguments: Any) -> str:
    return f"[[tool {tool} {json.dumps(arguments)}]] [[say Done.]]"


async def asleep(instance: Any) -> None:
    with anyio.fail_after(LIMIT):
        while (await instance.get_activity())["activity"] != "asleep":
            await anyio.sleep(0.1)


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("Bash", {"command": "sleep 60", "run_in_background": True}, "in the background: sleep 60"),
        ("Monitor", {"command": "sleep 60", "description": "watch", "timeout_ms": 60000, "persistent": False}, "watch"),
        (
            "Task",
            {
                "description": "wait",
                "prompt": "[[delay 60]] [[say done]]",
                "subagent_type": "general-purpose",
                "run_in_background": True,
            },
            "in the background: wait",
        ),
        ("CronCreate", {"cron": "0 0 1 1 *", "prompt": "later", "recurring": True}, "a prompt is scheduled"),
        ("ScheduleWakeup", {"delaySeconds": 3000, "reason": "later", "prompt": "later"}, "a prompt is scheduled"),
    ],
    ids=["shell", "monitor", "subagent", "cron", "wakeup"],
)
async def test_it_stays_awake_for_what_goes_on_without_a_turn(
    make: Make, scripted_model: ScriptedModel, tool: str, arguments: dict[str, Any], reason: str
) -> None:
    """Nobody reads when the turn is over: the agent sees it by itself."""
    instance = await make(sleep_after=0.2)
    scripted_model.add(Reply([Tool(tool, arguments), Say("Done.")]))
    assert await instance.send_command_and_wait("go", LIMIT) == (True, "Done.")
    await anyio.sleep(0.6)
    assert (await instance.get_activity())["activity"] == "idle"
    with pytest.raises(InstanceBusy, match=reason):
        await instance.sleep()


async def test_it_sleeps_when_the_work_in_the_background_is_over(make: Make) -> None:
    instance = await make(sleep_after=0.2)
    shell = calls("Bash", command="sleep 1", run_in_background=True)
    assert await instance.send_command_and_wait(shell, LIMIT) == (True, "Done.")
    await asleep(instance)
    assert await instance.send_command_and_wait("[[say back]]", LIMIT) == (True, "back")


async def test_a_scheduled_prompt_that_was_deleted_keeps_nothing_awake(make: Make) -> None:
    instance = await make()
    job = calls("ScheduleWakeup", delaySeconds=3000, reason="later", prompt="later")
    stop = calls("ScheduleWakeup", delaySeconds=60, reason="x", prompt="x", stop=True)
    assert await instance.send_command_and_wait(job, LIMIT) == (True, "Done.")
    assert await instance.send_command_and_wait(stop, LIMIT) == (True, "Done.")
    await instance.sleep()


async def test_a_server_of_tools_keeps_nothing_awake(make: Make, tmp_path: Path) -> None:
    """It is a process of Claude Code's, and lives as long as that."""
    server = tmp_path / "server.py"
    server.write_text(SERVER)
    config = json.dumps({"mcpServers": {"x": {"command": "python3", "args": [str(server)]}}})
    instance = await make(claude=ClaudeOptions(mcp_config=(config,)))
    assert await instance.send_command_and_wait("[[say hello]]", LIMIT) == (True, "hello")
    with anyio.fail_after(LIMIT):
        while not (tmp_path / "server.pid").exists():
            await anyio.sleep(0.05)
    ended = os.pidfd_open(int((tmp_path / "server.pid").read_text()))
    await instance.sleep()
    assert select.select([ended], [], [], 20)[0], "it ends with Claude Code"
    os.close(ended)


SERVER = """
import json, os, sys
with open(os.path.join(os.path.dirname(__file__), "new"), "w") as file:
    file.write(str(os.getpid()))
os.replace(file.name, os.path.join(os.path.dirname(__file__), "server.pid"))
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        version = message.get("params", {}).get("protocolVersion")
        known = {"initialize": {"protocolVersion": version, "capabilities": {"tools": {}}}, "tools/list": {"tools": []}}
        result = known.get(message["method"], {})
        if message["method"] == "initialize":
            result["serverInfo"] = {"name": "x", "version": "1"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


@pytest.mark.parametrize("command", ["/clear", "/compact", "/nonsense", "/context"])
async def test_it_sleeps_after_a_command_of_claude_codes_own(make: Make, command: str) -> None:
    instance = await make()
    await instance.send_command_and_wait("[[say hello]]", LIMIT)
    await instance.send_command_and_wait(command, LIMIT)
    await instance.sleep()
    assert await instance.send_command_and_wait("[[say back]]", LIMIT) == (True, "back")


async def test_it_sleeps_after_an_interrupt(make: Make) -> None:
    instance = await make()
    async with await instance.submit("[[say a]] [[hang]]") as turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                break
    await instance.sleep()
    assert await instance.send_command_and_wait("[[say back]]", LIMIT) == (True, "back")


async def test_it_wakes_with_the_same_settings_and_conversation(make: Make, scripted_model: ScriptedModel) -> None:
    options = ClaudeOptions(model="claude-haiku-4-5", append_system_prompt="Mind the gap.")
    instance = await make(claude=options)
    await instance.send_command_and_wait("first question", LIMIT)
    before = (await instance.get_info())["session_id"]
    await instance.sleep()
    assert await instance.send_command_and_wait("second question", LIMIT) == (True, "You said: second question")
    body = scripted_model.requests[-1].body
    assert body["model"] == "claude-haiku-4-5"
    assert "Mind the gap." in json.dumps(body["system"])
    assert "first question" in json.dumps(body["messages"])
    assert (await instance.get_info())["session_id"] == before


async def test_after_a_longer_time_the_agent_ends_too_and_the_next_command_starts_it(
    make: Make, scripted_model: ScriptedModel
) -> None:
    instance = await make(sleep_after=0.2, stop_after=0.2)
    await instance.send_command_and_wait("first question", LIMIT)
    assert instance._place._process
    ended = os.pidfd_open(instance._place._process.pid)
    await instance.release()
    with anyio.fail_after(LIMIT):
        await anyio.wait_readable(ended)
    os.close(ended)
    assert not await instance.is_running()
    assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")
    assert "first question" in json.dumps(scripted_model.requests[-1].body["messages"])


async def test_the_times_can_be_changed(make: Make) -> None:
    """Claude Code has them when it is started the next time, and that may be when it wakes."""
    instance = await make(sleep_after=0)
    await instance.send_command_and_wait("[[say hello]]", LIMIT)
    Registry().update(instance.name, sleep_after=0.2, stop_after=0)
    await instance.restart()
    await asleep(instance)
    assert instance.record.sleep_times == (0.2, 0)
    with pytest.raises(InvalidInput, match="sleep_after: seconds, 0 for never"):
        Registry().update(instance.name, sleep_after=-1)


def test_by_hand_and_from_threads(
    scripted_model: ScriptedModel, make_record: Callable[..., Any], claude: str, tmp_path: Path
) -> None:
    """covers: G2"""
    (tmp_path / "home").mkdir()
    record = make_record(env=scripted_model.claude_env(tmp_path / "home"), ephemeral=False)
    with blocking.LocalProcess(record) as instance:
        assert instance.send_command_and_wait("first question", LIMIT) == (True, "You said: first question")
        instance.sleep()
        instance.wake()
        assert instance.get_activity()["activity"] == "idle"
        try:
            assert cc("sleep", record.name).stdout == f"{record.name}\n"
            (row,) = json.loads(cc("ps", "--json", f"--filter=name={record.name}").stdout)
            assert (row["status"], row["activity"]) == ("running", "asleep")
            assert "asleep" in cc("ps").stdout
            assert "asleep" in cc("info", record.name).stdout
            assert cc("wake", record.name).returncode == 0
            assert instance.get_activity()["activity"] == "idle"
            assert cc("update", record.name, "--sleep-after=1h", "--stop-after=0").returncode == 0
            assert Registry().load(record.name).sleep_times == (3600, 0)
            with instance.submit("[[say a]] [[hang]]") as turn:
                assert next(turn)
                refused = cc("sleep", record.name)
                assert refused.returncode == 2
                assert "it is not idle: it has a turn" in refused.stderr
        finally:
            instance.remove()


@pytest.mark.docker
async def test_a_container_whose_claude_code_sleeps_stops(
    scripted_model: ScriptedModel, make_record: Callable[..., Any], images: Any
) -> None:
    env = scripted_model.claude_env()
    fields = {"image": images.claude, "network": "host", "env": env, "ephemeral": False}
    instance = DockerContainer(make_record(kind="docker", sleep_after=0.5, stop_after=0.5, **fields))
    try:
        await instance.send_command_and_wait("first question", LIMIT)
        await instance.release()
        with anyio.fail_after(LIMIT):
            while (info := await instance.get_info())["status"] == "running":
                await anyio.sleep(0.2)
        assert (info["status"], info["exit_code"]) == ("exited", 0)
        assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")
        assert "first question" in json.dumps(scripted_model.requests[-1].body["messages"])
    finally:
        await instance.remove()


async def test_what_came_while_it_fell_asleep_goes_on_with_the_conversation(
    make: Make, scripted_model: ScriptedModel
) -> None:
    """Its host leaves at once, and nobody else is there: the agent starts Claude Code, with all that was said."""
    instance = await make(ephemeral=False)
    assert await instance.send_command_and_wait("My word is w1 [[say y]]", LIMIT) == (True, "y")
    await instance.release()
    turn = new_uuid()
    connection = await Connection.open(Link(host="one"), instance.connect_to_look, instance.name)
    connection.link.put_to_sleep()
    connection.link.send_input(turn, user_message("[[say again]]", turn))
    await connection.write()
    with anyio.fail_after(LIMIT):
        while not any(isinstance(event, Queued) for event in await connection.receive()):
            pass
        await connection.aclose()
        assert (await (await instance.turn(turn)).result()).text == "again"
    assert "My word is w1" in json.dumps(scripted_model.requests[-1].body["messages"])
    await instance.remove(conversation=True)
