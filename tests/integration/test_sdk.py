"""The real Agent SDK and the real Claude Code over an instance: what each of the SDK's examples does. covers: B6"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from claude_agent_sdk import (
    AgentDefinition,
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    CLIConnectionError,
    CLINotFoundError,
    HookMatcher,
    InMemorySessionStore,
    Message,
    PermissionResultAllow,
    PermissionResultDeny,
    ProcessError,
    ResultError,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
    create_sdk_mcp_server,
    project_key_for_directory,
    query,
    tool,
)

from cc_bridge import ClaudeOptions, DockerContainer, InvalidInput, LocalProcess
from cc_bridge.sdk import BridgeTransport
from cc_bridge.testing import Delay, Pace, Reply, Say, ScriptedModel, Tool

#: The SDK leaves generators of its own to the garbage collector, which trio warns of.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:.*was garbage collected before it had been exhausted:ResourceWarning"),
]

#: Seconds after which something hangs.
_LIMIT = 90.0


@pytest.fixture(
    params=[
        "local asyncio",
        pytest.param("local trio", marks=pytest.mark.thorough),
        pytest.param("docker asyncio", marks=[pytest.mark.docker, pytest.mark.thorough]),
    ]
)
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(where: str) -> str:
    return where.split()[1]


@pytest.fixture
async def instance(
    where: str, request: pytest.FixtureRequest, make_record: Any, scripted_model: ScriptedModel, tmp_path: Path
) -> AsyncIterator[Any]:
    if where.startswith("docker"):
        images = request.getfixturevalue("images")
        fields = {"image": images.claude, "network": "host", "env": scripted_model.claude_env()}
        made: Any = DockerContainer(make_record(kind="docker", **fields))
    else:
        request.getfixturevalue("claude")
        home = tmp_path / "claude-home"
        home.mkdir()
        made = LocalProcess(make_record(env=scripted_model.claude_env(home)))
    yield made
    await made.cleanup()


class Noted(BridgeTransport):
    """Tells when it was closed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.done = anyio.Event()

    async def close(self) -> None:
        await super().close()
        self.done.set()


async def ask(
    instance: Any, prompt: Any, options: ClaudeAgentOptions | None = None, failure: type[Exception] | None = None
) -> list[Message]:
    """All messages of a query, which ends well, or with this error."""
    options = options or ClaudeAgentOptions()
    messages: list[Message] = []
    with anyio.fail_after(_LIMIT):
        stream = query(prompt=prompt, options=options, transport=BridgeTransport(instance, options))
        with pytest.raises(failure) if failure else nullcontext() as raised:
            async for message in stream:
                messages.append(message)  # noqa: PERF401  those before an error, too
        if raised is not None:
            messages.append(raised.value)  # type: ignore[arg-type]
    return messages


async def turn(client: ClaudeSDKClient, prompt: str) -> list[Message]:
    with anyio.fail_after(_LIMIT):
        await client.query(prompt)
        return [message async for message in client.receive_response()]


def text(messages: list[Message]) -> str:
    blocks = [block for message in messages if isinstance(message, AssistantMessage) for block in message.content]
    return "".join(block.text for block in blocks if isinstance(block, TextBlock))


def result(messages: list[Message]) -> ResultMessage:
    [found] = [message for message in messages if isinstance(message, ResultMessage)]
    return found


def tools(messages: list[Message]) -> list[ToolUseBlock]:
    blocks = [block for message in messages if isinstance(message, AssistantMessage) for block in message.content]
    return [block for block in blocks if isinstance(block, ToolUseBlock)]


def outcomes(messages: list[Message]) -> list[ToolResultBlock]:
    users = [message for message in messages if isinstance(message, UserMessage) and isinstance(message.content, list)]
    return [block for message in users for block in message.content if isinstance(block, ToolResultBlock)]


async def test_a_query(instance: Any) -> None:
    messages = await ask(instance, "hello")
    assert isinstance(messages[0], SystemMessage)
    assert messages[0].data["cwd"] == (
        instance.record.mount_at if instance.kind == "docker" else str(instance.record.workspace)
    )
    assert text(messages) == "You said: hello"
    assert not result(messages).is_error


async def test_prompts_that_are_streamed(instance: Any) -> None:
    async def prompts() -> AsyncIterator[dict[str, Any]]:
        for word in ("one", "two"):
            yield {"type": "user", "message": {"role": "user", "content": word}}

    messages = await ask(instance, prompts())
    assert "one" in text(messages)
    assert "two" in text(messages)


async def test_many_turns_beside_the_instances_own_conversation(instance: Any, scripted_model: ScriptedModel) -> None:
    options = ClaudeAgentOptions()
    async with ClaudeSDKClient(options, BridgeTransport(instance, options)) as client:
        assert text(await turn(client, "one")) == "You said: one"
        assert await instance.send_command_and_wait("[[say apart]]", _LIMIT) == (True, "apart")
        other = BridgeTransport(instance, options)
        async with ClaudeSDKClient(options, other) as second:
            assert text(await turn(second, "else")) == "You said: else"
        assert text(await turn(client, "two")) == "You said: two"
        said = str(scripted_model.requests[-1].body["messages"])
        assert "one" in said
        assert "else" not in said
        assert "apart" not in said


async def test_hooks_of_tools_prompts_and_the_end(instance: Any) -> None:
    seen: list[tuple[str, str]] = []

    async def note(given: Any, tool_use_id: str | None, context: Any) -> Any:
        seen.append((given["hook_event_name"], given.get("tool_name", "")))
        if given["hook_event_name"] == "PreToolUse" and "forbidden" in str(given["tool_input"]):
            said = {"hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": "no such"}
            return {"hookSpecificOutput": said}
        return {}

    kinds: Any = ["PreToolUse", "PostToolUse", "UserPromptSubmit", "Stop"]
    hooks = {kind: [HookMatcher(hooks=[note])] for kind in kinds}
    options = ClaudeAgentOptions(hooks=hooks, allowed_tools=["Bash"])
    prompt = '[[tool Bash {"command":"echo fine"}]] [[tool Bash {"command":"echo forbidden"}]] [[say done]]'
    messages = await ask(instance, prompt, options)
    assert [kind for kind, _ in seen] == ["UserPromptSubmit", "PreToolUse", "PostToolUse", "PreToolUse", "Stop"]
    fine, forbidden = outcomes(messages)
    assert ("fine" in str(fine.content), fine.is_error) == (True, False)
    assert ("no such" in str(forbidden.content), forbidden.is_error) == (True, True)


async def test_hooks_of_permissions_failures_subagents_and_compaction(
    instance: Any, scripted_model: ScriptedModel
) -> None:
    seen: list[tuple[str, str]] = []

    async def note(given: Any, tool_use_id: str | None, context: Any) -> Any:
        what = next((given[name] for name in ("tool_name", "trigger", "agent_type") if name in given), "")
        seen.append((given["hook_event_name"], what))
        return {}

    async def decide(given: Any, tool_use_id: str | None, context: Any) -> Any:
        await note(given, tool_use_id, context)
        decision = {"behavior": "allow", "updatedInput": {"command": "ls /no-such-directory"}}
        return {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": decision}}

    kinds: Any = ["PostToolUseFailure", "SubagentStart", "SubagentStop", "PreCompact"]
    hooks: Any = {kind: [HookMatcher(hooks=[note])] for kind in kinds}
    hooks["PermissionRequest"] = [HookMatcher(hooks=[decide])]
    agents = {"looker": AgentDefinition(description="looks", prompt="You look.", tools=["Bash"])}
    options = ClaudeAgentOptions(hooks=hooks, agents=agents)
    given = {"description": "look", "subagent_type": "looker", "prompt": "[[say seen]]", "run_in_background": False}
    async with ClaudeSDKClient(options, BridgeTransport(instance, options)) as client:
        [failed] = outcomes(await turn(client, '[[tool Bash {"command":"touch made"}]] [[say done]]'))
        assert "no-such-directory" in str(failed.content)
        scripted_model.add(Reply([Tool("Task", given), Say("done")]))
        await turn(client, "go")
        await turn(client, "/compact")
    assert seen[:5] == [
        ("PermissionRequest", "Bash"),
        ("PostToolUseFailure", "Bash"),
        ("SubagentStart", "looker"),
        ("SubagentStop", "looker"),
        ("PreCompact", "manual"),
    ]


@pytest.mark.thorough
async def test_a_hook_of_notifications(instance: Any) -> None:
    """Claude Code has one to tell when nobody has decided for a few seconds."""
    told = anyio.Event()

    async def note(given: Any, tool_use_id: str | None, context: Any) -> Any:
        assert "Bash" in given["message"]
        told.set()
        return {}

    async def decide(name: str, given: dict[str, Any], context: Any) -> Any:
        await told.wait()
        return PermissionResultAllow()

    options = ClaudeAgentOptions(hooks={"Notification": [HookMatcher(hooks=[note])]}, can_use_tool=decide)
    async with ClaudeSDKClient(options, BridgeTransport(instance, options)) as client:
        assert text(await turn(client, '[[tool Bash {"command":"touch made"}]] [[say done]]')) == "done"


async def test_a_permission_callback_that_changes_the_input(instance: Any) -> None:
    asked: list[Any] = []

    async def decide(name: str, given: dict[str, Any], context: Any) -> Any:
        asked.append((name, given))
        if "rm" in given["command"]:
            return PermissionResultDeny(message="not that")
        return PermissionResultAllow(updated_input={**given, "command": "echo changed"})

    options = ClaudeAgentOptions(can_use_tool=decide)
    async with ClaudeSDKClient(options, BridgeTransport(instance, options)) as client:
        messages = await turn(client, '[[tool Bash {"command":"mkdir a"}]] [[tool Bash {"command":"rm -r a"}]]')
    assert [name for name, _ in asked] == ["Bash", "Bash"]
    changed, denied = outcomes(messages)
    assert "changed" in str(changed.content)
    assert "not that" in str(denied.content)
    assert not (Path(instance.record.workspace) / "a").exists()


async def test_tools_of_this_process(instance: Any) -> None:
    @tool("add", "Adds.", {"a": int, "b": int})
    async def add(args: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": f"{os.getpid()}: {args['a'] + args['b']}"}]}

    server = create_sdk_mcp_server("sums", tools=[add])
    options = ClaudeAgentOptions(mcp_servers={"sums": server}, allowed_tools=["mcp__sums__add"])
    messages = await ask(instance, '[[tool mcp__sums__add {"a":2,"b":3}]] [[say done]]', options)
    assert f"{os.getpid()}: 5" in str(outcomes(messages)[0].content)


async def test_partial_messages(instance: Any, scripted_model: ScriptedModel) -> None:
    scripted_model.add(Reply([Say("in "), Say("pieces")]))
    messages = await ask(instance, "go", ClaudeAgentOptions(include_partial_messages=True))
    deltas = [message.event for message in messages if isinstance(message, StreamEvent)]
    pieces = [event["delta"]["text"] for event in deltas if event.get("delta", {}).get("type") == "text_delta"]
    assert "".join(pieces) == "in pieces"
    assert len(pieces) > 1


async def test_structured_output(instance: Any) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    options = ClaudeAgentOptions(output_format={"type": "json_schema", "schema": schema})
    messages = await ask(instance, '[[tool StructuredOutput {"n": 7}]]', options)
    assert result(messages).structured_output == {"n": 7}


async def test_a_subagent(instance: Any, scripted_model: ScriptedModel) -> None:
    agents = {"looker": AgentDefinition(description="looks", prompt="You look.", tools=["Bash"])}
    given = {
        "description": "look",
        "subagent_type": "looker",
        "prompt": "[[say its report]]",
        "run_in_background": False,
    }
    scripted_model.add(Reply([Tool("Task", given), Say("done")]))
    messages = await ask(instance, "go", ClaudeAgentOptions(agents=agents))
    assert "its report" in str(outcomes(messages)[0].content)
    assert result(messages).result == "done"


async def test_resume_and_fork(instance: Any, scripted_model: ScriptedModel) -> None:
    first = result(await ask(instance, "remember this")).session_id
    resumed = result(await ask(instance, "and that", ClaudeAgentOptions(resume=first))).session_id
    forked = result(await ask(instance, "elsewhere", ClaudeAgentOptions(resume=first, fork_session=True))).session_id
    assert resumed == first
    assert forked != first
    said = str(scripted_model.requests[-1].body["messages"])
    assert "remember this" in said
    assert "and that" in said


async def test_an_interrupt_in_mid_answer_and_a_turn_after_it(instance: Any, scripted_model: ScriptedModel) -> None:
    scripted_model.add(Reply([Say("begun "), Pace(0.05), *[Say("more ")] * 2000]))
    options = ClaudeAgentOptions(include_partial_messages=True)
    async with ClaudeSDKClient(options, BridgeTransport(instance, options)) as client:
        with anyio.fail_after(_LIMIT):
            await client.query("go")
            async with aclosing(client.receive_response()) as messages:  # type: ignore[type-var]
                async for message in messages:
                    if isinstance(message, StreamEvent) and "begun" in str(message.event):
                        break
            await client.interrupt()
            rest = [message async for message in client.receive_response()]
        assert isinstance(rest[-1], ResultMessage)
        assert text(await turn(client, "[[say after]]")) == "after"


async def test_model_and_permission_mode_are_changed(instance: Any, scripted_model: ScriptedModel) -> None:
    options = ClaudeAgentOptions()
    async with ClaudeSDKClient(options, BridgeTransport(instance, options)) as client:
        await turn(client, "one")
        await client.set_model("claude-haiku-4-5")
        await client.set_permission_mode("acceptEdits")
        messages = await turn(client, '[[tool Write {"file_path":"made.txt","content":"x"}]] [[say done]]')
    assert scripted_model.requests[-1].body["model"].startswith("claude-haiku-4-5")
    assert (Path(instance.record.workspace) / "made.txt").read_text() == "x", messages


async def test_file_checkpoints(instance: Any) -> None:
    options = ClaudeAgentOptions(
        enable_file_checkpointing=True, permission_mode="acceptEdits", extra_args={"replay-user-messages": None}
    )
    made = Path(instance.record.workspace) / "made.txt"
    async with ClaudeSDKClient(options, BridgeTransport(instance, options)) as client:
        messages = await turn(client, '[[tool Write {"file_path":"made.txt","content":"x"}]] [[say done]]')
        assert made.exists()
        mark = next(message.uuid for message in messages if isinstance(message, UserMessage) and message.uuid)
        await client.rewind_files(mark)
    assert not made.exists()


async def test_a_store_of_sessions_gets_what_was_said(instance: Any) -> None:
    store = InMemorySessionStore()
    messages = await ask(instance, "for the store", ClaudeAgentOptions(session_store=store))
    found = result(messages).session_id
    sessions = [key for key in store._store if found in str(key)]  # the keys are the SDK's own
    assert sessions
    assert "for the store" in str([store._store[key] for key in sessions])


async def test_a_session_that_only_a_store_has_is_gone_on_with(instance: Any, scripted_model: ScriptedModel) -> None:
    store, other = InMemorySessionStore(), InMemorySessionStore()
    prompt = '[[say well]] [[tool Bash {"command":"echo noted"}]] remember this'
    first = result(await ask(instance, prompt, ClaudeAgentOptions(session_store=store))).session_id
    moved, project = str(uuid4()), project_key_for_directory(instance.record.workspace)
    entries: Any = await store.load({"project_key": project, "session_id": first})
    entries = json.loads(json.dumps(entries).replace(first, moved))
    await other.append({"project_key": project, "session_id": moved}, entries)
    for number, asked in enumerate(({"resume": moved}, {"continue_conversation": True})):
        options = ClaudeAgentOptions(session_store=other, **asked)
        assert result(await ask(instance, f"again {number}", options)).session_id == moved
        assert "remember this" in str(scripted_model.requests[-1].body["messages"])
    assert "again 0" in str(scripted_model.requests[-1].body["messages"])
    stored = await other.load({"project_key": project, "session_id": moved})
    assert "again 1" in str(stored), "what is said from now on is the same session's"


async def test_an_answer_that_is_an_error(instance: Any) -> None:
    messages = await ask(instance, "[[error 400]]", failure=ResultError)
    assert result(messages[:-1]).is_error
    failure: Any = messages[-1]
    assert (failure.exit_code, failure.api_error_status) == (1, 400)


async def test_words_that_claude_code_does_not_know_end_it_with_a_code(instance: Any) -> None:
    [failure] = await ask(instance, "hello", ClaudeAgentOptions(extra_args={"no-such-word": None}), ProcessError)
    assert isinstance(failure, ProcessError)
    assert failure.exit_code == 1
    assert "no-such-word" in str(failure)


async def test_stderr(instance: Any) -> None:
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        raise RuntimeError("a fault in a callback")

    await ask(instance, "hello", ClaudeAgentOptions(extra_args={"debug-to-stderr": None}, stderr=hear))
    assert any("[DEBUG]" in line for line in heard)
    assert not any("\n" in line for line in heard)


async def test_a_first_message_and_a_prompt_of_5_mb(instance: Any) -> None:
    agents = {"big": AgentDefinition(description="big", prompt="x" * 5_000_000)}
    assert text(await ask(instance, "[[say read]]", ClaudeAgentOptions(agents=agents))) == "read"
    refused: Any = (await ask(instance, "x " * 2_500_000, failure=ResultError))[-1]
    assert refused.result == "Prompt is too long", "Claude Code has read it, and says so itself"


async def test_who_leaves_a_query_leaves_no_process(instance: Any, scripted_model: ScriptedModel) -> None:
    scripted_model.add(Reply([Say("begun "), Delay(60), Say("never")]))
    options = ClaudeAgentOptions(include_partial_messages=True)
    transport = Noted(instance, options)
    with anyio.fail_after(_LIMIT):
        async for message in query(prompt="go", options=options, transport=transport):
            if isinstance(message, StreamEvent):
                break
        await transport.done.wait()
    assert transport._session is not None
    assert transport._session.exited is not None
    assert not transport.is_ready()


async def test_there_is_no_claude_code(make_record: Any, where: str) -> None:
    if where.startswith("docker"):
        pytest.skip("a program is looked for here only for a process of this machine")
    instance = LocalProcess(make_record(claude=ClaudeOptions(program="no-such-program")))
    await ask(instance, "hello", failure=CLINotFoundError)
    await instance.cleanup()


async def test_claude_code_that_is_killed_is_told_by_its_code(instance: Any, scripted_model: ScriptedModel) -> None:
    scripted_model.add(Reply([Say("begun "), Delay(60), Say("never")]))
    options = ClaudeAgentOptions(include_partial_messages=True)
    transport = BridgeTransport(instance, options)
    with anyio.fail_after(_LIMIT), pytest.raises(ProcessError) as raised:
        async for message in query(prompt="go", options=options, transport=transport):
            if isinstance(message, StreamEvent) and "begun" in str(message.event):
                assert transport._session is not None
                await transport._session.signal("KILL")
    assert raised.value.exit_code == -signal.SIGKILL


async def test_an_instance_that_is_stopped_in_mid_answer(instance: Any, scripted_model: ScriptedModel) -> None:
    scripted_model.add(Reply([Say("begun "), Delay(60), Say("never")]))
    options = ClaudeAgentOptions(include_partial_messages=True)
    messages: list[Any] = []
    with anyio.fail_after(_LIMIT):
        try:
            async for message in query(prompt="go", options=options, transport=BridgeTransport(instance, options)):
                messages.append(message)
                if isinstance(message, StreamEvent) and "begun" in str(message.event):
                    await instance.stop()
        except (CLIConnectionError, ProcessError):
            return
    assert result(messages).is_error, "it was interrupted in order, and has said so"


async def test_an_agent_that_is_killed_in_mid_answer_and_a_query_after_it(
    instance: Any, scripted_model: ScriptedModel
) -> None:
    """In a container it is the main process: the container ends with it, and the next query starts it again."""
    scripted_model.add(Reply([Say("begun "), Delay(60), Say("never")]))
    options = ClaudeAgentOptions(include_partial_messages=True)
    with anyio.fail_after(_LIMIT), pytest.raises(CLIConnectionError, match="ended with its agent"):
        async for message in query(prompt="go", options=options, transport=BridgeTransport(instance, options)):
            if isinstance(message, StreamEvent) and "begun" in str(message.event):
                if instance.kind == "docker":
                    await anyio.run_process(["docker", "restart", "--time", "0", instance.container])
                else:
                    os.kill(instance._place._process.pid, signal.SIGKILL)
    assert text(await ask(instance, "[[say after]]")) == "after"


async def test_the_connection_breaks_in_mid_answer_and_nobody_notices(
    instance: Any, scripted_model: ScriptedModel
) -> None:
    words = [f"word{number} " for number in range(300)]
    scripted_model.add(Reply([Pace(0.005), *[Say(word) for word in words]]))
    options = ClaudeAgentOptions(include_partial_messages=True)
    transport = BridgeTransport(instance, options)
    pieces, breaks = [], 0
    with anyio.fail_after(_LIMIT):
        async for message in query(prompt="go", options=options, transport=transport):
            if isinstance(message, StreamEvent) and message.event.get("delta", {}).get("type") == "text_delta":
                pieces.append(message.event["delta"]["text"])
                if len(pieces) % 50 == 10:
                    assert transport._session is not None
                    connection = transport._session._uplink.connection
                    if connection is not None:
                        breaks += 1
                        await connection.aclose()
    assert "".join(pieces) == "".join(words)
    assert breaks > 1


async def test_options_that_cannot_be_had_are_refused_by_name(instance: Any) -> None:
    for name, options in {
        "cli_path": ClaudeAgentOptions(cli_path="/usr/bin/claude"),
        "user": ClaudeAgentOptions(user="root"),
    }.items():
        with pytest.raises(InvalidInput, match=name):
            BridgeTransport(instance, options)
