"""Permission desk and accounts with the real Claude Code. covers: B4, B23"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from cc_bridge import ClaudeInstance, LocalProcess, PermissionRequest, PermissionRules, ToolResult, TurnResult
from cc_bridge.fleet.accounts import Accounts
from cc_bridge.fleet.desk import AllowForSession, Asked, Desk
from cc_bridge.fleet.rules import Rules
from cc_bridge.instance import Decision, Deny
from tests.conftest import MakeRecord

pytestmark = pytest.mark.anyio

TURN = "turn"


@pytest.fixture
def record(make_record: MakeRecord, claude: str, claude_env: dict[str, str]) -> ClaudeInstance:
    rules = PermissionRules(allow=("Bash(mkdir:*)",), deny=("Bash(touch secret*)",))
    return make_record(env=claude_env, rules=rules)


async def results_of(instance: LocalProcess, prompt: str) -> list[str]:
    """What the tools of a turn have returned."""
    return [str(event.content) async for event in instance.stream(prompt) if isinstance(event, ToolResult)]


async def test_what_the_rules_say_and_somebody_answers_is_what_claude_code_does(
    record: ClaudeInstance, tmp_path: Path, workspace: Path
) -> None:
    desk = Desk(tmp_path / "desk", rules=lambda name: Rules.of(record))
    seen: list[str] = []

    async def decide(request: PermissionRequest) -> Decision:
        return await desk.decide(record.name, TURN, request)

    async def person() -> None:
        async for event in desk.watch():
            if isinstance(event, Asked):
                command = str((event.request.input or {})["command"])
                seen.append(command)
                desk.answer(
                    event.request.id, Deny("Rather not.") if "rm" in command else AllowForSession("Bash(echo:*)")
                )

    async with anyio.create_task_group() as group, LocalProcess(record, on_permission=decide) as instance:
        group.start_soon(person)
        await anyio.wait_all_tasks_blocked()
        for command in ("mkdir allowed", "touch secret.txt", "rm -rf allowed", "echo 1 > one", "echo 2 > two"):
            await results_of(instance, '[[tool Bash {"command": "' + command + '"}]][[say ok]]')
        desk.close()
    assert sorted(path.name for path in workspace.iterdir()) == ["allowed", "one", "two"]
    assert seen[:2] == ["rm -rf allowed", "echo 1 > one"]


async def test_a_session_tells_its_whole_cost_also_when_it_is_resumed_but_for_what_a_kill_has_cut(
    record: ClaudeInstance, tmp_path: Path
) -> None:
    """docs/claude-code.md relies on it, and so do the accounts."""
    accounts = Accounts(tmp_path / "accounts")
    sums: list[float] = []

    async def turn(instance: LocalProcess, *, killed: bool = False) -> None:
        async for event in instance.stream("[[say hello]]"):
            if isinstance(event, TurnResult):
                sums.append(event.cost_usd)
                (process,) = processes_of(record)
                of_it = (record.name, "p", event.session_id, str(len(sums)))
                accounts.note(*of_it, event, process=str(process), killed=killed)

    async with LocalProcess(record) as instance:
        await turn(instance)
        await turn(instance)
        await instance.restart()
        await turn(instance)
        await turn(instance)
        (process,) = processes_of(record)
        os.kill(process, signal.SIGKILL)
        await turn(instance, killed=True)
        await turn(instance)
    each = sums[0]
    assert each > 0
    # 2 were saved at the restart; 3 and 4 went with the process.
    assert sums == pytest.approx([number * each for number in (1, 2, 3, 4, 3, 4)])
    costs = [accounts.total(turn=str(number)).cost_usd for number in range(1, 7)]
    assert costs == pytest.approx([each] * 6)
    assert accounts.total(instance=record.name).input == 6 * accounts.total(turn="1").input > 0


def processes_of(record: ClaudeInstance) -> list[int]:
    """Claude Code's own, by its HOME."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            env, line = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if (
            f"HOME={record.env['HOME']}".encode() in env.split(b"\0")
            and b"--input-format" in line
            and b".pyz" not in line
        ):
            found.append(int(path.name))
    return found
