"""Any runtime in a container: Claude Code's one-shot command line, real, and runtimes that fail. covers: R7, R8"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cc_bridge.engine.execs import Exit
from cc_bridge.manager.manager import ContainerManager
from cc_bridge.manager.options import ContainerOptions
from cc_bridge.protocol.command_line import ClaudeOptions
from cc_bridge.runner import ContainerRunner, Execution, Message, OneShotClaude, run_command, run_command_streaming
from cc_bridge.testing import ScriptedModel

pytestmark = pytest.mark.anyio


class Shell:
    """A runtime of somebody else's: a line of output is a message."""

    async def execute(self, options: Execution) -> AsyncGenerator[Message, None]:
        async for item in options.run(["sh", "-c", options.prompt], b""):
            if isinstance(item, Exit):
                yield {"type": "end", "code": item.exit_code}
            else:
                yield {"type": "said", "text": item.data.decode()}


@pytest.fixture
def project() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def manager(project: str) -> AsyncIterator[ContainerManager]:
    async with ContainerManager() as manager:
        yield manager
        assert not await manager.list(project), "left behind"


async def collect(runner: Any, options: Execution) -> list[Message]:
    return [message async for message in runner.execute(options)]


@pytest.mark.docker
async def test_claude_code_in_a_container(
    manager: ContainerManager, scripted_model: ScriptedModel, workspace: Path, images: Any, project: str
) -> None:
    container = ContainerOptions(
        image=images.claude, project=project, workspace=workspace, network="host", env=scripted_model.claude_env()
    )
    runner = ContainerRunner(OneShotClaude(), manager, container)
    options = ClaudeOptions(system_prompt="be brief", allowed_tools=("Read",))
    first = await collect(runner, Execution("[[say one two]] the first words", options))
    assert first[-1]["type"] == "result"
    assert first[-1]["result"] == "one two"
    texts = [message["event"]["delta"].get("text") for message in first if message["type"] == "stream_event"
             and message["event"]["type"] == "content_block_delta"]  # fmt: skip
    assert texts == ["one", " two"], "streamed"
    again = Execution("[[say three]]", options, resume=first[-1]["session_id"], fork=True)
    assert (await collect(runner, again))[-1]["result"] == "three"
    # Claude Code asks for more than the answer, such as a title.
    asked = [str(request.body) for request in scripted_model.requests if "[[say three]]" in str(request.body)]
    assert any("the first words" in body for body in asked)
    assert any("be brief" in body for body in asked)


async def test_the_same_here(claude: str, scripted_model: ScriptedModel, tmp_path: Path, monkeypatch: Any) -> None:
    for name, value in scripted_model.claude_env(tmp_path).items():
        monkeypatch.setenv(name, value)
    options = Execution("[[say here]]", ClaudeOptions(program=claude))
    messages = await collect(OneShotClaude(), options)
    assert messages[-1]["result"] == "here"
    stream = OneShotClaude().execute(Execution("[[repeat 3 ab]] [[hang]]", ClaudeOptions(program=claude)))
    async for message in stream:
        if message["type"] == "stream_event":
            break
    await stream.aclose()


@pytest.mark.docker
async def test_any_runtime_and_what_goes_wrong(
    manager: ContainerManager, images: Any, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures become messages; a failed start leaves nothing behind."""

    def runner(**fields: Any) -> ContainerRunner:
        return ContainerRunner(
            Shell(), manager, ContainerOptions(**{"image": images.bare, "project": project, **fields})
        )

    assert await collect(runner(), Execution("echo hello")) == [
        {"type": "said", "text": "hello\n"},
        {"type": "end", "code": 0},
    ]
    assert (await collect(runner(), Execution("exit 9")))[-1] == {"type": "end", "code": 9}
    (missing,) = await collect(runner(image="cc-bridge-no-such:1"), Execution("true"))
    assert (missing["type"], missing["kind"]) == ("error", "ImageNotFound")
    assert missing["hint"]
    (failed,) = await collect(runner(user="no-such-user"), Execution("true"))
    assert (failed["type"], failed["kind"]) == ("error", "ContainerStartError")
    stream = runner().execute(Execution("echo one; sleep 60"))
    assert (await anext(stream))["text"] == "one\n"
    await stream.aclose()
    claude = ContainerRunner(OneShotClaude(), manager, ContainerOptions(images.bare, project))
    ended = await collect(claude, Execution("x"))
    assert ended[-1]["type"] == "error"
    assert ended[-1]["exit_code"] not in (0, None)
    (absent,) = await collect(claude, Execution("x", ClaudeOptions(program="no-such-claude")))
    assert (absent["exit_code"], absent["kind"]) == (127, "ClaudeNotFound")


async def test_no_engine_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    (message,) = await collect(ContainerRunner(OneShotClaude()), Execution("hello"))
    assert (message["type"], message["kind"]) == ("error", "EngineUnavailable")


@pytest.mark.docker
async def test_a_command_in_a_line(images: Any, project: str) -> None:
    """covers: R1, R2"""
    options = ContainerOptions(images.bare, project)
    done = await run_command(["sh", "-c", "echo out; exit 2"], options)
    assert (done.exit_code, done.stdout) == (2, b"out\n")
    items = [item async for item in run_command_streaming(["echo", "x"], options)]
    assert items[-1] == Exit(0)
