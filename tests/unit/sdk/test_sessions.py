"""Sessions of a store's, as files and by the paths of both sides. covers: B6"""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any
from uuid import uuid4

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, CLIConnectionError, InMemorySessionStore

from cc_bridge.sdk_sessions import Projects, StoredSession, stored_session

FIRST, SECOND, HELPERS = (str(uuid4()) for _ in range(3))


def options(store: Any, **fields: Any) -> ClaudeAgentOptions:
    return ClaudeAgentOptions(session_store=store, **fields)


async def filled() -> InMemorySessionStore:
    """Two sessions, the newer of which had a subagent, which the store has as a third."""
    store = InMemorySessionStore()
    for session_id, entry in (
        (FIRST, {"type": "user", "n": 1}),
        (SECOND, {"type": "user", "n": 2}),
        (HELPERS, {"type": "user", "isSidechain": True}),
    ):
        await store.append({"project_key": "-work", "session_id": session_id}, [entry])  # type: ignore[typeddict-item,typeddict-unknown-key]
    key: Any = {"project_key": "-work", "session_id": SECOND}
    for subpath in ("subagents/agent-1", "../../../escaped", "/etc/x", "a/./b", ""):
        about = [{"type": "agent_metadata", "agentType": kind} for kind in ("old", "new")]
        await store.append({**key, "subpath": subpath or "a\\b"}, [*about, {"type": "user", "n": 3}])  # type: ignore[list-item]
    return store


@pytest.mark.anyio
async def test_the_one_that_is_asked_for_or_the_newest_that_is_no_subagents() -> None:
    store = await filled()
    found = await stored_session(options(store, resume=FIRST), "-work")
    assert found == StoredSession(FIRST, {f"{FIRST}.jsonl": b'{"type":"user","n":1}\n'})
    newest = await stored_session(options(store, continue_conversation=True), "-work")
    assert newest is not None
    assert newest.session_id == SECOND


@pytest.mark.anyio
async def test_subagents_have_files_of_their_own_and_nothing_leads_out_of_the_session() -> None:
    found = await stored_session(options(await filled(), resume=SECOND), "-work")
    assert found is not None
    assert {path: json.loads(content) for path, content in found.files.items()} == {
        f"{SECOND}.jsonl": {"type": "user", "n": 2},
        f"{SECOND}/subagents/agent-1.jsonl": {"type": "user", "n": 3},
        f"{SECOND}/subagents/agent-1.meta.json": {"agentType": "new"},
    }
    with tarfile.open(fileobj=io.BytesIO(found.archive("-there"))) as tar:
        assert sorted(tar.getnames()) == sorted(f"-there/{path}" for path in found.files)
        assert {member.mode for member in tar} == {0o600}


@pytest.mark.anyio
@pytest.mark.parametrize("asked", [{"resume": str(uuid4())}, {"resume": "no id"}, {"continue_conversation": True}])
async def test_what_the_store_has_not_is_left_to_the_instance(asked: dict[str, Any]) -> None:
    assert await stored_session(options(InMemorySessionStore(), **asked), "-work") is None


class Least:
    """What a store must have, and no more."""

    async def load(self, key: Any) -> list[Any]:
        return [{"type": "user"}]


class Fails(Least):
    async def load(self, key: Any) -> list[Any]:
        raise OSError("the disk is full")


class Hangs(Least):
    async def load(self, key: Any) -> list[Any]:
        await anyio.sleep_forever()
        return []


@pytest.mark.anyio
async def test_a_store_need_not_know_of_subagents() -> None:
    found = await stored_session(options(Least(), resume=FIRST), "-work")
    assert found is not None
    assert list(found.files) == [f"{FIRST}.jsonl"]


@pytest.mark.anyio
@pytest.mark.parametrize(("store", "what"), [(Fails(), "the disk is full"), (Hangs(), "longer than 0.01 s")])
async def test_a_store_that_fails_is_said(store: Any, what: str) -> None:
    with pytest.raises(CLIConnectionError, match=what):
        await stored_session(options(store, resume=FIRST, load_timeout_ms=10), "-work")


def test_a_mirrored_transcript_has_the_path_that_the_sdk_knows() -> None:
    projects = Projects("/home/me/.config/claude/projects", "-srv-shop", "-workspace")
    for there, here in {
        "/home/cc-bridge/.claude/projects/-workspace/x.jsonl": "/home/me/.config/claude/projects/-srv-shop/x.jsonl",
        "/h/.claude/projects/-workspace/x/y.jsonl": "/home/me/.config/claude/projects/-srv-shop/x/y.jsonl",
        "/h/.claude/projects/-else/x.jsonl": "/home/me/.config/claude/projects/-else/x.jsonl",
        "/elsewhere/x.jsonl": "/elsewhere/x.jsonl",
        "/a/projects/../../etc/x": "/a/projects/../../etc/x",
    }.items():
        assert projects.mirrored(there) == here
