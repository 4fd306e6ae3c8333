"""A command that is given before the program has loaded what reads the answer. covers: P5, C8"""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cc_bridge import LocalProcess
from cc_bridge.bridge.posted import post
from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel
from tests.command import COMMAND, cc


@pytest.fixture
def name(scripted_model: ScriptedModel, workspace: Path, claude: str) -> Iterator[str]:
    """An instance that has answered once."""
    chosen, home = f"posted-{uuid.uuid4().hex[:8]}", workspace / "home"
    home.mkdir()
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env(home).items()]
    assert cc("up", chosen, "--on=local", f"--workspace={workspace}", *env).returncode == 0
    assert cc("send", chosen, "[[say first]]").stdout == "first\n"
    yield chosen
    cc("rm", "--force", "--conversation", chosen)


async def answer_of(name: str, turn_id: str, prompt: str | None = None) -> str:
    """Of a turn that is found, or whose command is given again."""
    instance = LocalProcess(Registry().load(name))
    try:
        turn = await (instance.submit(prompt, turn_id) if prompt else instance.turn(turn_id))
        return (await turn.result()).text
    finally:
        await instance.release()


def test_nobody_listens_to_what_is_said(name: str, scripted_model: ScriptedModel) -> None:
    words = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *COMMAND, "send", name, "[[say unheard]]"]
    assert subprocess.run(words, check=False, timeout=60).returncode == 0
    assert scripted_model.prompts["[[say unheard]]"] == 1


def test_it_is_asked_once_and_answered_to_who_finds_it_or_gives_it_again(
    name: str, scripted_model: ScriptedModel
) -> None:
    pipes = str(Registry().home(name).pipes)
    first, second = "[[say one]]", "[[say two]]"
    assert anyio.run(answer_of, name, post(pipes, first)) == "one"
    assert anyio.run(answer_of, name, post(pipes, second), second) == "two"
    assert (scripted_model.prompts[first], scripted_model.prompts[second]) == (1, 1)
    assert all(turn["read"] for turn in json.loads(cc("turns", name, "--json").stdout))
    assert post(pipes, "x" * 5000) == "", "more than a pipe takes at once"
    assert cc("sleep", name).returncode == 0
    assert post(pipes, first) == "", "asleep"
    assert cc("stop", name).returncode == 0
    assert post(pipes, first) == "", "nobody listens"
    assert scripted_model.prompts[first] == 1


def test_ctrl_c_before_all_is_loaded_interrupts_it(name: str, scripted_model: ScriptedModel) -> None:
    prompt = "[[say so far]] [[hang]]"
    with subprocess.Popen([*COMMAND, "send", name, prompt], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
        for _ in range(3000):
            if scripted_model.prompts[prompt]:  # it was posted, and the program still loads
                break
            time.sleep(0.01)  # the model tells nobody
        sender.send_signal(signal.SIGINT)
        assert sender.wait(30) == 130
    assert cc("send", name, "[[say next]]").stdout == "next\n"
    states = [turn["state"] for turn in json.loads(cc("turns", name, "--json").stdout)]
    assert states == ["ended", "ended", "ended"]


@pytest.mark.parametrize("prompt", [" ", "[[error 400]]"])
def test_errors_are_told_as_ever(name: str, prompt: str) -> None:
    failed = cc("send", name, prompt)
    assert failed.returncode in (1, 2)
    assert "Traceback" not in failed.stderr
    assert "empty" in failed.stderr or "400" in failed.stderr
