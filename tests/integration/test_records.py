"""A record and the instance that was made with it: one stays what the other says. covers: C2, L1"""

from __future__ import annotations

import errno
import os
import signal
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import ApiLimits, ClaudeInstance, ClaudeOptions, DockerContainer, LocalProcess, TmuxInstance
from cc_bridge.errors import AgentUnavailable, ClaudeError, EngineTimeout, InstanceDiffers, InvalidInput
from cc_bridge.instances.registry import Home, Registry
from cc_bridge.instances.sessions import Sessions
from tests.command import cc
from tests.conftest import STUB

pytestmark = pytest.mark.anyio

Make = Callable[..., ClaudeInstance]


@pytest.fixture
def make(make_record: Make, tmp_path: Path) -> Make:
    """Makes records of instances that stay, with the stub in Claude Code's place."""
    (tmp_path / "home").mkdir()

    def make(**fields: Any) -> ClaudeInstance:
        env = {"HOME": str(tmp_path / "home"), **fields.pop("env", {})}
        return make_record(**{"ephemeral": False, "claude": ClaudeOptions(program=str(STUB)), "env": env, **fields})

    return make


@pytest.mark.parametrize("ephemeral", [False, True])
async def test_a_record_of_an_instance_that_exists_is_not_overwritten(
    make: Make, tmp_path: Path, ephemeral: bool
) -> None:
    """Also where the new one is ephemeral, and cleans up after it was refused."""
    first = LocalProcess(make())
    try:
        await first.start()
        kept = Registry().load(first.name)
        other = make(name=first.name, workspace=tmp_path, claude=ClaudeOptions(model="other"), ephemeral=ephemeral)
        other = LocalProcess(other)
        differences = ("workspace", *(["ephemeral"] if ephemeral else []), "claude.program", "claude.model")
        for act in (other.start, other.get_info, other.is_running, other.keep_conversation, other.stop, other.remove):
            with pytest.raises(InstanceDiffers, match=r"differs in workspace.*cc-bridge rm") as caught:
                await act()
            assert caught.value.differences == differences
        with pytest.raises(InstanceDiffers):
            await other.send_command_and_wait("plain", 30)
        await other.cleanup()
        assert Registry().load(first.name) == kept
        assert await first.is_running()
    finally:
        await first.remove()
    assert not Registry().home(first.name).exists()


async def test_a_program_that_makes_the_same_record_again_goes_on_with_the_instance(make: Make) -> None:
    record = make()
    first, again = LocalProcess(record), LocalProcess(make(name=record.name))
    try:
        assert await first.send_command_and_wait("plain", 30) == (True, "Hello, you.")
        assert again.record.created != record.created
        assert await again.send_command_and_wait("plain", 30) == (True, "Hello, you.")
        assert Registry().load(record.name).created == record.created
    finally:
        await again.release()
        await first.remove()


async def test_of_two_programs_that_make_one_name_at_once_the_second_is_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make()
    first, second = LocalProcess(record), LocalProcess(make(name=record.name, project="other"))
    looks = iter([False])  # the first is not yet there when the second looks
    exists = type(first._home).exists
    try:
        await first.start()
        monkeypatch.setattr(type(first._home), "exists", lambda home: next(looks, None) is None and exists(home))
        with pytest.raises(InstanceDiffers, match="differs in project"):
            second._prepare_home()
    finally:
        await second.release()
        await first.remove()


async def test_what_can_be_changed_is_changed_by_update_and_the_rest_needs_a_new_one(make: Make) -> None:
    """Whoever has the instance takes it over; a change to the object's own record is told, and not passed over."""
    instance = LocalProcess(make())
    name = instance.name
    try:
        await instance.start()
        claude = replace(instance.record.claude, model="other")
        Registry().update(name, claude=claude, env={**instance.record.env, "MORE": "1"})
        await instance.restart()
        assert instance.record.claude.model == Registry().load(name).claude.model == "other"
        with pytest.raises(InvalidInput, match="memory, image: only a new instance can have that changed"):
            Registry().update(name, memory=1, image="x", relay=False)
        with pytest.raises(InvalidInput, match="skip_permissions: allowed only in a container"):
            Registry().update(name, claude=replace(claude, skip_permissions=True))
        assert Registry().load(name) == instance.record, "nothing was changed"
        instance.record.env["MORE"] = "2"
        with pytest.raises(InstanceDiffers, match=r"differs in env\. .*cc-bridge update"):
            await instance.start()
        instance.record.env["MORE"] = "1"
    finally:
        await instance.remove()


async def test_the_verb_update(make: Make) -> None:
    instance = LocalProcess(make())
    name = instance.name
    try:
        await instance.start()
        done = cc("update", name, "--model=other", "--allowed-tools=Bash,Read", "-e", "MORE=1")
        assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr
        assert f"cc-bridge restart {name}" in done.stderr
        changed = Registry().load(name)
        assert changed.claude == replace(instance.record.claude, model="other", allowed_tools=("Bash", "Read"))
        assert changed.env == {**instance.record.env, "MORE": "1"}
        assert cc("update", name).returncode == cc("update", "nobody", "--model=x").returncode == 2
    finally:
        await instance.remove()


def test_the_verb_update_changes_what_the_proxy_looks_at(make: Make) -> None:
    """covers: B22"""
    record = make(kind="docker", image="i", sealed=True, allow_hosts=["a.example"], ephemeral=False)
    home = Registry().home(record.name)
    home.prepare()
    home.save(record)
    try:
        words = ("--allow-host=b.example", "--api-limit=at-once=2", "--key-file=key")
        done = cc("update", record.name, *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{record.name}\n", "")
        assert cc("update", record.name, "--api-limit=usd-per-day=1").returncode == 0
        changed = Registry().load(record.name)
        assert changed.allow_hosts == ("b.example",)
        assert changed.api_limits == ApiLimits(at_once=2, usd_per_day=1.0)
        assert changed.key_file == Path("key").absolute()
        assert cc("update", record.name, "--key-command=pass key", "--allow-host=").returncode == 0
        changed = Registry().load(record.name)
        assert (changed.key_command, changed.key_file, changed.allow_hosts) == ("pass key", None, ())
    finally:
        home.remove()


@pytest.mark.parametrize("made_for", [DockerContainer, LocalProcess, TmuxInstance])
@pytest.mark.parametrize("kind", ["docker", "local", "tmux"])
async def test_a_record_runs_where_its_kind_says_or_nowhere(make: Make, made_for: Any, kind: str) -> None:
    """What was to be in a container must not run on this machine."""
    record = make(kind=kind, **({"image": "cc-bridge"} if kind == "docker" else {}))
    if kind == made_for.kind:
        await made_for(record).release()
        return
    with pytest.raises(InvalidInput, match=rf"its record is of kind '{kind}', and .* is for kind '{made_for.kind}'"):
        made_for(record)


async def test_chat_does_not_pass_over_options_for_an_instance_that_exists(make: Make) -> None:
    instance = LocalProcess(make())
    try:
        await instance.start()
        done = cc("chat", instance.name, "--model=other", "--memory=1g", input="plain\n")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--memory, --model given" in done.stderr or "--model, --memory given" in done.stderr
        assert f"cc-bridge update {instance.name}" in done.stderr
        assert cc("chat", instance.name, input="plain\n").stdout == "Hello, you.\n"
        assert "there is no instance 'nobody'" in cc("chat", "nobody", "--model=other").stderr
    finally:
        await instance.remove()


async def test_a_first_start_that_fails_leaves_a_record_that_can_be_corrected(make: Make) -> None:
    """And one of an instance that has run before stays, whatever goes wrong."""
    wrong = LocalProcess(make(claude=ClaudeOptions(program="no-such-program")))
    with pytest.raises(ClaudeError):
        await wrong.start()
    assert not Registry().home(wrong.name).path.exists()
    assert not await wrong.is_running()
    await wrong.release()
    right = LocalProcess(make(name=wrong.name))
    try:
        await right.start()
        Registry().update(right.name, claude=ClaudeOptions(program="no-such-program"))
        with pytest.raises(ClaudeError):
            await right.restart()
        assert Registry().names() == [right.name]
    finally:
        await right.remove()


async def test_a_first_start_by_a_command_leaves_nothing_where_it_fails(make: Make) -> None:
    wrong = LocalProcess(make(claude=ClaudeOptions(program="no-such-program")))
    with pytest.raises(ClaudeError):
        await wrong.send_command_and_wait("plain", 30)
    await wrong.release()
    assert not Registry().home(wrong.name).path.exists()


async def test_of_two_first_starts_at_once_each_fails_and_neither_leaves_anything(make: Make) -> None:
    wrong = LocalProcess(make(claude=ClaudeOptions(program="no-such-program")))
    errors = []

    async def start() -> None:
        with pytest.raises(ClaudeError) as caught:
            await wrong.start()
        errors.append(caught.value)

    async with anyio.create_task_group() as group:
        group.start_soon(start)
        group.start_soon(start)
    await wrong.release()
    assert len(errors) == 2
    assert not Registry().home(wrong.name).path.exists()


@pytest.mark.parametrize("by", ["start", "send_command_and_wait"])
async def test_a_first_start_that_is_given_up_leaves_nothing(
    make: Make, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = LocalProcess(make())
    launching = anyio.Event()

    async def launch(session_id: str) -> None:
        launching.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(instance, "launch", launch)
    async with anyio.create_task_group() as group:
        group.start_soon(getattr(instance, by), *([] if by == "start" else ["plain", 30]))
        with anyio.fail_after(30):
            await launching.wait()
        assert Registry().home(instance.name).exists()
        group.cancel_scope.cancel()
    assert not await instance.is_running()
    await instance.release()
    assert not Registry().home(instance.name).path.exists()


async def test_a_first_start_that_fails_leaves_what_another_program_has_talked_to_meanwhile(make: Make) -> None:
    wrong = LocalProcess(make(claude=ClaudeOptions(program="no-such-program")))
    wrong._prepare_home()
    wrong._home.remember_session(str(uuid.uuid4()))
    try:
        with pytest.raises(ClaudeError):
            await wrong.start()
        assert wrong._home.exists()
    finally:
        await wrong.remove()


async def test_a_large_directory_is_removed_beside_the_event_loop(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, threads = Home.remove, []

    def watched(home: Home) -> None:
        threads.append(threading.current_thread())
        remove(home)

    monkeypatch.setattr(Home, "remove", watched)
    instance = LocalProcess(make())
    await instance.start()
    await instance.remove()
    assert threads
    assert threading.current_thread() not in threads


async def test_the_last_lines_of_a_log_are_all_where_it_has_fewer(make: Make) -> None:
    instance = LocalProcess(make())
    try:
        instance._prepare_home()
        instance.agent_log.write_text("one\ntwo\nthree\n")
        shown = [cc("logs", instance.name, "--tail", str(count)).stdout.split("\n")[:-1] for count in (0, 2, 4, 7)]
        assert shown == [[], ["two", "three"], ["one", "two", "three"], ["one", "two", "three"]]
    finally:
        await instance.remove()


async def test_a_record_that_is_no_text_hides_no_other_and_is_removed_by_force(make: Make) -> None:
    good, bad = make(), make()
    for record in (good, bad):
        home = Registry().home(record.name)
        home.prepare()
        home.save(record)
    (home.path / "record.json").write_bytes(b"\xff")
    try:
        assert {good.name, bad.name} <= set(cc("ps", "--quiet").stdout.split())
        assert cc("rm", bad.name).returncode == 2
        assert home.path.exists()
        assert cc("rm", "--force", bad.name).stdout == f"{bad.name}\n"
        assert not home.path.exists()
    finally:
        home.remove()
        Registry().home(good.name).remove()


async def test_an_instance_is_given_back_although_a_forked_child_has_a_copy_of_the_lock(make: Make) -> None:
    instance = LocalProcess(make())
    try:
        instance._prepare_home()
        assert instance._kept._held is not None
        copy = os.dup(instance._kept._held)  # as fork(2) makes one
        await instance.release()
        with instance._home.claimed() as unused:
            assert unused
        os.close(copy)
    finally:
        await instance.remove()


async def test_a_configuration_that_is_a_link_has_its_conversations_all_the_same(make: Make, tmp_path: Path) -> None:
    """As managers of dotfiles make it."""
    session_id = str(uuid.uuid4())
    transcript = tmp_path / "dotfiles" / "projects" / "-p" / f"{session_id}.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_text('{"type":"user"}\n')
    (tmp_path / "home" / ".claude").symlink_to(tmp_path / "dotfiles")
    record = make()
    LocalProcess(record)._prepare_home()
    Registry().home(record.name).remember_session(session_id)
    instance = LocalProcess(record)
    assert await instance.export_conversation(tmp_path / "exported") == session_id
    await instance.remove(conversation=True)
    assert not transcript.exists()


async def test_of_several_that_are_to_be_removed_one_that_cannot_be_keeps_no_other(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    there, container = make(), make(kind="docker", image="cc-bridge")
    for record in (there, container):
        home = Registry().home(record.name)
        home.prepare()
        home.save(record)
    try:
        done = cc("rm", "--force", container.name, "nobody", there.name)
        assert (done.returncode, done.stdout) == (3, f"{there.name}\n")
        assert "there is no instance 'nobody'" in done.stderr
        assert not Registry().home(there.name).exists()
        assert home.exists()
    finally:
        home.remove()


async def test_an_undo_that_cannot_remove_the_place_keeps_the_record(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would name what is left, and the next instance of the name would be given it."""
    instance = LocalProcess(make(claude=ClaudeOptions(program="/nowhere/claude"), ephemeral=False))
    remove = instance._place.remove

    async def fail() -> None:
        raise EngineTimeout("the engine did not answer")

    monkeypatch.setattr(instance._place, "remove", fail)
    with pytest.raises(ClaudeError):
        await instance.start()
    assert Registry().home(instance.name).exists()
    monkeypatch.setattr(instance._place, "remove", remove)
    await instance.remove()
    assert not Registry().home(instance.name).path.exists()


async def test_a_conversation_that_cannot_be_kept_is_not_removed(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    instance = LocalProcess(make(ephemeral=False))
    assert await instance.send_command_and_wait("plain", 30) == (True, "Hello, you.")
    transcript = tmp_path / "transcript"
    transcript.write_text('{"type": "user"}')

    async def open_session(session_id: str) -> Any:
        return transcript.open("rb")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(instance._place, "open_session", open_session)
    monkeypatch.setattr(type(instance._place), "removes_session", True)
    monkeypatch.setattr(Sessions, "keep", full)
    with pytest.raises(InvalidInput, match=r"cannot be kept, and so it was not removed: .*rm --conversation"):
        await instance.remove()
    assert Registry().home(instance.name).exists()
    await instance.remove(conversation=True)
    assert not Registry().home(instance.name).exists()


async def test_what_another_program_has_removed_begins_anew(make: Make) -> None:
    """With what is kept under its name; and others see its conversation."""
    record = make(ephemeral=False)
    one, other = LocalProcess(record), LocalProcess(record)
    try:
        assert await one.send_command_and_wait("plain", 30) == (True, "Hello, you.")
        await other.remove()
        assert await one.send_command_and_wait("plain", 30) == (True, "Hello, you.")
        assert (await one.get_info())["session_id"] == Registry().home(record.name).session_id != ""
    finally:
        await one.remove()
        await one.release()
        await other.release()


async def test_a_suspended_agent_is_not_said_to_be_stopped(make: Make) -> None:
    instance, other = LocalProcess(record := make(ephemeral=False)), LocalProcess(record)
    await instance.start()
    process = instance._place._process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(AgentUnavailable, match=r"its agent was not ended: .*suspended"):
            await other.remove()
        assert Registry().home(record.name).exists()
    finally:
        os.kill(process.pid, signal.SIGCONT)
    await other.remove()
    await anyio.to_thread.run_sync(process.wait)
    await instance.release()
