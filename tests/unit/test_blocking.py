"""The blocking facade over an instance that is made up: threads, streams, errors, and the end of the event loop."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal

import cc_bridge
from cc_bridge import ClaudeInstance, InstanceInterface, PermissionRequest, Text, blocking, event_loop
from cc_bridge.blocking import BlockingInstance, BlockingTurn
from cc_bridge.bridge.surroundings import Dialer, Surroundings
from cc_bridge.errors import BridgeError, ClaudeNotFound, EngineUnavailable, InvalidInput, TurnFailed, TurnNotFound
from cc_bridge.event_loop import awaitable
from cc_bridge.events import ContextUsage, SlashCommand, TextDelta, TurnResult, TurnStarted, Verdict
from cc_bridge.fleet.attended import Inhabited
from cc_bridge.instance import Allow, Deny
from cc_bridge.instances.bridged import BridgedInstance, CommonOptions, InstanceOptions
from cc_bridge.protocol.blocks import Prompt
from cc_bridge.protocol.prompt import text_of
from cc_bridge.turn import Turn, TurnInfo
from tests.conftest import STUB

from .scripted_source import ScriptedSource

THREADS = 8

#: Seconds after which something hangs. Nothing waits for them to pass.
_LIMIT = 60.0


class FakeInstance(InstanceInterface):
    """An instance that answers ``hang`` with one piece and no end, ``fail`` with a failure, anything else with itself.

    Attributes:
        asked: what was asked of it, in order.
        threads: those in which it was asked.
        broken: errors to raise, by method.
    """

    def __init__(self, workspace: Path) -> None:
        self.record = ClaudeInstance.of(name="fake", kind="local", workspace=workspace)
        self.asked: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.broken: dict[str, Exception] = {}
        self.sources: dict[str, ScriptedSource] = {}
        self.meeting = 1
        self._met: anyio.Event | None = None
        self._present = 0
        self.waiting: anyio.Event | None = None
        self.called = threading.Event()
        self.idle = threading.Event()
        self.cancelled = False

    async def sleep(self) -> None:
        self._note("sleep")

    async def release(self) -> None:
        self._note("release")

    def _note(self, what: str) -> None:
        self.asked.append(what)
        self.threads.add(threading.current_thread())
        if what in self.broken:
            raise self.broken[what]

    async def submit(self, prompt: Prompt, id: str | None = None) -> Turn:  # noqa: A002
        text = text_of(prompt)
        self._note("submit")
        if not text:
            raise InvalidInput("the text is empty")
        await self._meet()
        events = {
            "hang": [TextDelta("so far")],
            "fail": [TextDelta("so far"), TurnResult(Verdict.FAILED, "so far", error="it broke")],
        }.get(text, [TurnStarted("s", "m"), TextDelta(text), TextDelta("!"), TurnResult(Verdict.COMPLETED, f"{text}!")])
        turn_id = id or f"turn-{len(self.sources)}"
        self.sources[turn_id] = ScriptedSource(*[[event] for event in events])
        self.sources[turn_id].idle = self.idle.set
        return Turn(self.sources[turn_id], turn_id)

    async def _meet(self) -> None:
        """Return when as many calls as ``meeting`` are here at once."""
        self._met = self._met or anyio.Event()
        self._present += 1
        if self._present >= self.meeting:
            self._met.set()
        with anyio.fail_after(_LIMIT):
            await self._met.wait()

    async def turn(self, id: str) -> Turn:  # noqa: A002
        self._note("turn")
        if id not in self.sources:
            raise TurnNotFound(f"no turn {id}")
        return Turn(self.sources[id], id, found=True)

    async def turns(self) -> list[TurnInfo]:
        self._note("turns")
        return [TurnInfo(turn_id, read=not source.batches) for turn_id, source in self.sources.items()]

    async def interrupt(self) -> None:
        self._note("interrupt")

    async def set_model(self, model: str | None) -> str:
        self._note("set_model")
        return model or "its own"

    async def set_permission_mode(self, mode: str) -> str:
        self._note("set_permission_mode")
        return mode

    async def commands(self) -> list[SlashCommand]:
        self._note("commands")
        return [SlashCommand("compact")]

    async def context_usage(self, *, exact: bool = False) -> ContextUsage:
        self._note("context_usage")
        return ContextUsage("m", 1 if exact else 0, 100, 1)

    async def start(self) -> None:
        self._note("start")

    async def stop(self) -> None:
        """Waits for :meth:`get_info` to be over."""
        self._note("stop")
        if self.waiting is not None:
            with anyio.fail_after(_LIMIT):
                await self.waiting.wait()

    async def cleanup(self) -> None:
        self._note("cleanup")

    async def remove(self, *, conversation: bool = False) -> None:
        self._note(f"remove conversation={conversation}")

    async def is_running(self) -> bool:
        self._note("is_running")
        return True

    async def get_info(self) -> dict[str, Any]:
        """Does not return: it has to be cancelled."""
        self._note("get_info")
        self.waiting = anyio.Event()
        self.called.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise
        finally:
            self.waiting.set()
        return {}


@pytest.fixture
def fake(tmp_path: Path) -> FakeInstance:
    return FakeInstance(tmp_path)


@pytest.fixture
def instance(fake: FakeInstance) -> Iterator[BlockingInstance]:
    made = BlockingInstance(fake)
    yield made
    made.cleanup()


@pytest.fixture
def event_loops() -> Callable[[], int]:
    """How many threads run that did not before the test."""
    before = set(threading.enumerate())
    return lambda: len(set(threading.enumerate()) - before)


# The same names


#: Methods for the bridge and instances alone, which have to be public for another class.
_FOR_THE_BRIDGE = {*vars(Dialer), *vars(Surroundings), *vars(Inhabited), "use_bridge", "exists", "claude_hint"}
_FOR_THE_BRIDGE |= {"and_then", "find"}  # whom a thread asks by its record


def _signature(function: Callable[..., Any]) -> list[tuple[str, object, Any]]:
    return [(item.name, item.kind, item.default) for item in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (InstanceInterface, BlockingInstance),
        (Turn, BlockingTurn),
        (cc_bridge.LocalProcess, blocking.LocalProcess),
        (cc_bridge.TmuxInstance, blocking.TmuxInstance),
        (cc_bridge.DockerContainer, blocking.DockerContainer),
        (cc_bridge.SwarmService, blocking.SwarmService),
        (cc_bridge.ContainerTools, blocking.BlockingTools),
    ],
)
def test_every_method_has_the_names_and_arguments_of_the_asynchronous_one(theirs: type, ours: type) -> None:
    """Properties, too. covers: C16"""
    for name in dir(theirs):
        thing, blocking_name = inspect.getattr_static(theirs, name), {"aclose": "close"}.get(name, name)
        if name.startswith("_") or name in _FOR_THE_BRIDGE or isinstance(thing, str):
            continue
        found = inspect.getattr_static(ours, blocking_name, None)
        assert found is not None, f"{ours.__name__}.{blocking_name} is missing"
        assert found.__doc__ or found.fget.__doc__, f"{ours.__name__}.{blocking_name} has no docstring"
        if inspect.isfunction(thing):
            assert _signature(found) == _signature(thing), f"{ours.__name__}.{blocking_name}"


@pytest.mark.parametrize("kind", ["LocalProcess", "TmuxInstance", "DockerContainer", "SwarmService", "open"])
def test_instances_are_made_with_the_same_arguments(kind: str) -> None:
    theirs, ours = getattr(cc_bridge, kind), getattr(blocking, kind)
    names = set(inspect.signature(theirs).parameters) | set(InstanceOptions.__annotations__)
    assert set(inspect.signature(ours).parameters) | set(blocking.BlockingOptions.__annotations__) | {"options"} == (
        names - {*CommonOptions.__annotations__, "on_permission"}
        | set(blocking.BlockingOptions.__annotations__)
        | {"options"}
    )


def test_the_options_are_those_of_the_constructor() -> None:
    """Which a type checker reads from a TypedDict."""
    found = inspect.signature(BridgedInstance).parameters.values()
    keywords = {item.name for item in found if item.kind is inspect.Parameter.KEYWORD_ONLY}
    assert keywords == set(InstanceOptions.__annotations__) == set(blocking.BlockingOptions.__annotations__)


def test_each_method_does_what_the_asynchronous_one_does(instance: BlockingInstance, fake: FakeInstance) -> None:
    instance.start()
    assert instance.is_running()
    assert instance.send_command_and_wait("hello") == (True, "hello!")
    assert list(instance.send_command("hello")) == ["hello", "!"]
    assert isinstance(list(instance.stream("hello"))[-1], TurnResult)
    instance.interrupt()
    instance.restart()
    assert fake.asked == ["start", "is_running", "submit", "submit", "submit", "interrupt", "stop", "start"]
    assert instance.record is fake.record


def test_what_is_set_and_asked_is_handed_on(instance: BlockingInstance, fake: FakeInstance) -> None:
    assert (instance.set_model("opus"), instance.set_model(None)) == ("opus", "its own")
    assert instance.set_permission_mode("plan") == "plan"
    assert list(instance.commands()) == [SlashCommand("compact")]
    assert (instance.context_usage().total_tokens, instance.context_usage(exact=True).total_tokens) == (0, 1)
    assert instance.send_command_and_wait([Text("hello")]) == (True, "hello!")
    assert fake.asked[0] == "set_model"


def test_a_time_limit_is_handed_on(instance: BlockingInstance) -> None:
    assert instance.send_command_and_wait("hang", 0) == (False, "")


# Streams


def test_a_piece_is_handed_out_while_the_turn_goes_on(instance: BlockingInstance) -> None:
    answer = instance.send_command("hang")
    assert next(answer) == "so far"
    answer.close()


def test_nothing_is_sent_before_the_first_piece_is_asked_for(instance: BlockingInstance, fake: FakeInstance) -> None:
    instance.send_command("hello")
    assert fake.asked == []


def test_leaving_a_loop_early_ends_the_turn_and_waits_until_it_is_over(
    instance: BlockingInstance, fake: FakeInstance
) -> None:
    for piece in instance.send_command("hang"):
        assert piece == "so far"
        break
    assert fake.sources["turn-0"].asked[-1][0] == "abandoned"


def test_an_error_in_the_loops_body_ends_the_turn(instance: BlockingInstance, fake: FakeInstance) -> None:
    answer = instance.stream("hang")
    next(answer)
    with pytest.raises(ZeroDivisionError):
        answer.throw(ZeroDivisionError)
    assert fake.sources["turn-0"].asked[-1][0] == "abandoned"


def test_a_forgotten_generator_is_closed_wherever_python_collects_it(
    instance: BlockingInstance, fake: FakeInstance
) -> None:
    """Here on the event loop, while the thread that waits for it holds the lock. covers: C16"""
    collected, closed = threading.Event(), threading.Event()

    async def collect() -> None:
        gc.collect()

    def call() -> None:
        with instance._loop._lock:
            instance._loop.call(collect)
        collected.set()

    answer = instance.send_command("hang")
    next(answer)
    fake.sources["turn-0"].over = closed.set
    cycle: list[Any] = [answer]
    cycle.append(cycle)
    del answer, cycle
    threading.Thread(target=call, daemon=True).start()
    assert collected.wait(_LIMIT)
    assert closed.wait(_LIMIT)


def test_a_blocking_method_on_the_event_loop_says_so(instance: BlockingInstance) -> None:
    """For example in a coroutine function that decides on permissions; it hung where another thread began a call."""

    async def ask() -> None:
        instance.is_running()

    with pytest.raises(RuntimeError, match="this blocks"):
        instance._loop.call(ask)


# Turns


def test_a_turn_is_an_iterator_of_its_events(instance: BlockingInstance, fake: FakeInstance) -> None:
    with instance.submit("hello", id="t1") as turn:
        assert turn.id == "t1"
        assert [type(event) for event in turn] == [TurnStarted, TextDelta, TextDelta, TurnResult]
    turn.raise_for_result()
    assert instance.turns() == [TurnInfo("t1", read=True)]
    assert all(what == "wait_for_events" for what, _ in fake.sources["t1"].asked)


def test_leaving_a_turn_of_ones_own_ends_it_and_one_that_was_found_goes_on(
    instance: BlockingInstance, fake: FakeInstance
) -> None:
    own = instance.submit("hang", id="t1")
    with instance.turn("t1") as found:
        next(found)
    assert fake.sources["t1"].asked[-1][0] == "leave"
    own.interrupt()
    assert fake.sources["t1"].asked[-1][0] == "interrupt_turn"
    own.close()
    assert fake.sources["t1"].asked[-1][0] == "abandoned"


# Errors


def test_errors_are_those_of_the_asynchronous_methods(instance: BlockingInstance) -> None:
    with pytest.raises(InvalidInput):
        instance.send_command_and_wait("")
    with pytest.raises(TurnNotFound):
        instance.turn("unknown")
    turn = instance.submit("fail")
    assert turn.result().text == "so far"
    with pytest.raises(TurnFailed, match="it broke"):
        turn.raise_for_result()


def test_a_turn_that_fails_fails_after_what_it_has_said(instance: BlockingInstance) -> None:
    answer = instance.send_command("fail")
    assert next(answer) == "so far"
    with pytest.raises(TurnFailed, match="it broke"):
        next(answer)


def test_after_an_error_the_instance_is_used_as_before(instance: BlockingInstance) -> None:
    with pytest.raises(InvalidInput):
        list(instance.stream(""))
    assert instance.send_command_and_wait("hello") == (True, "hello!")


# Threads


def test_calls_of_many_threads_run_at_once_on_one_event_loop(instance: BlockingInstance, fake: FakeInstance) -> None:
    """None of them returns before all are there."""
    fake.meeting = THREADS
    texts = [f"text {number}" for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(instance.send_command_and_wait, texts))
    assert answers == [(True, f"{text}!") for text in texts]
    assert len(fake.threads) == 1


def test_streams_of_many_threads_do_not_mix(instance: BlockingInstance) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda text: list(instance.send_command(text)), map(str, range(THREADS))))
    assert answers == [[str(number), "!"] for number in range(THREADS)]


def test_a_thread_may_clean_up_while_others_still_use_the_instance(
    instance: BlockingInstance, fake: FakeInstance, event_loops: Callable[[], int]
) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        answers = [pool.submit(instance.send_command_and_wait, "hello") for _ in range(THREADS)]
        endings = [pool.submit(instance.cleanup) for _ in range(THREADS)]
    for answer in answers:
        error = answer.exception()
        assert isinstance(error, BridgeError) if error else answer.result() == (True, "hello!")
    assert [ending.result() for ending in endings] == [None] * THREADS
    instance.cleanup()
    assert event_loops() == 0


@pytest.mark.parametrize("end", ["cleanup", "release", "remove"])
def test_what_runs_in_another_thread_does_not_keep_the_clean_up_from_ending(
    instance: BlockingInstance, fake: FakeInstance, end: str, event_loops: Callable[[], int]
) -> None:
    """It ends with an error that says why."""
    call: Future[Any] = Future()

    def ask() -> None:
        try:
            call.set_result(instance.get_info())
        except BaseException as error:
            call.set_exception(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    assert fake.called.wait(_LIMIT)
    ending = threading.Thread(target=getattr(instance, end), daemon=True)
    ending.start()
    with pytest.raises(BridgeError, match="while this ran"):
        call.result(_LIMIT)
    ending.join(_LIMIT)
    asking.join(_LIMIT)
    assert fake.cancelled
    assert event_loops() == 0


def test_ctrl_c_cancels_the_call_that_it_interrupts(
    instance: BlockingInstance, fake: FakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        """What a thread that waits for a result sees of Ctrl-C."""
        assert fake.called.wait(_LIMIT)
        raise KeyboardInterrupt

    def start(*arguments: Any) -> Future[Any]:
        future = start_task_soon(*arguments)
        future.result = interrupted
        return future

    start_task_soon = BlockingPortal.start_task_soon
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(BlockingPortal, "start_task_soon", start)
        instance.get_info()
    instance.stop()  # returns when the call is over
    assert fake.cancelled
    assert instance.send_command_and_wait("hello") == (True, "hello!")


@pytest.mark.parametrize("how", ["a loop", "a turn"])
def test_ctrl_c_in_an_iterator_is_ctrl_c_and_ends_the_turn(
    instance: BlockingInstance[FakeInstance], fake: FakeInstance, how: str
) -> None:
    """A real one, while the next piece is waited for. covers: C16"""
    main = threading.main_thread().ident
    assert main == threading.get_ident()

    def press() -> None:
        assert fake.idle.wait(_LIMIT)
        signal.pthread_kill(main, signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        pressed = pool.submit(press)
        with pytest.raises(KeyboardInterrupt):
            if how == "a loop":
                for _ in instance.send_command("hang"):
                    pass
            else:
                with instance.submit("hang") as turn:
                    for _ in turn:
                        pass
        pressed.result()
    assert fake.sources["turn-0"].asked[-1][0] == "abandoned"
    assert instance.send_command_and_wait("hello") == (True, "hello!")


# Permissions


def decided(function: Any) -> tuple[Any, threading.Thread]:
    """What a function decides, as the instance gets it, and the thread in which it ran."""
    threads: list[threading.Thread] = []

    def noting(request: PermissionRequest) -> Any:
        threads.append(threading.current_thread())
        return function(request)

    async def ask() -> Any:
        return await awaitable(noting)(PermissionRequest("r", "Bash", {}))

    return anyio.run(ask), threads[0]


def test_a_plain_function_decides_and_may_block() -> None:
    """It runs in a thread of its own. covers: B4"""
    answer, thread = decided(lambda request: Allow() if request.tool_name == "Bash" else Deny())
    assert answer == Allow()
    assert thread is not threading.current_thread()


def test_a_coroutine_function_decides_as_well() -> None:
    async def decide(request: PermissionRequest) -> Any:
        return threading.current_thread()

    assert decided(decide)[0] is threading.current_thread(), "on the event loop"
    threads = []

    async def ask() -> None:
        threads.append(await awaitable(decide)(PermissionRequest("r", "Bash", {})))

    anyio.run(ask)
    assert threads == [threading.current_thread()]


def test_plain_functions_that_wait_keep_nothing_else_from_a_thread() -> None:
    """Each has its own, however many wait. covers: C16"""
    go = threading.Event()

    async def ask() -> None:
        everybody = int(anyio.to_thread.current_default_thread_limiter().total_tokens) + 1
        asked = threading.Semaphore(0)

        def decide() -> None:
            asked.release()
            assert go.wait(_LIMIT)

        async with anyio.create_task_group() as group:
            for _ in range(everybody):
                group.start_soon(awaitable(decide))
            try:
                with anyio.fail_after(_LIMIT / 2):
                    await anyio.to_thread.run_sync(
                        lambda: [asked.acquire() for _ in range(everybody)], abandon_on_cancel=True
                    )
            finally:
                go.set()

    anyio.run(ask)


@pytest.mark.parametrize("how", ["a plain function", "a coroutine function", "no function of the caller's"])
def test_sys_exit_in_a_callback_is_raised_where_it_was_called_and_ends_no_event_loop(
    instance: BlockingInstance, fake: FakeInstance, how: str
) -> None:
    """Which serves all instances. covers: C16"""

    def decide() -> None:
        sys.exit("not in this program")

    async def decide_later() -> None:
        sys.exit("not in this program")

    function: Any = {"a plain function": awaitable(decide), "a coroutine function": awaitable(decide_later)}.get(
        how, decide_later
    )
    instance.start()
    with pytest.raises(SystemExit, match="not in this program"):
        instance._loop.call(function)
    assert instance.is_running()
    assert len(fake.threads) == 1


def test_an_event_loop_that_has_ended_by_itself_is_replaced(
    fake: FakeInstance, tmp_path: Path, event_loops: Callable[[], int]
) -> None:
    """Whoever still holds it gives it back without harm, and takes the new one with the next call."""
    instance, other = BlockingInstance(fake), BlockingInstance(FakeInstance(tmp_path))
    instance.start()
    other.start()
    instance._loop.call(_end_the_event_loop)
    for thread in fake.threads:
        thread.join(_LIMIT)
    third = BlockingInstance(FakeInstance(tmp_path))
    third.start()
    other._loop.leave()
    assert instance.is_running()
    third.cleanup()
    assert instance.is_running()
    instance.cleanup()
    other.cleanup()
    assert event_loops() == 0


async def _end_the_event_loop() -> None:
    portal = event_loop._event_loop._portal
    assert portal is not None
    await portal.stop()


# The end


@pytest.mark.parametrize(
    "use",
    [
        "print(instance.send_command_and_wait('plain'))",
        "answer = instance.send_command('interrupted-bare'); print(next(answer))",
        "turn = instance.submit('interrupted-bare'); print(next(turn))",
        "import threading; threading.Thread(target=lambda: print(list(instance.send_command('plain')))).start()",
    ],
    ids=["after an answer", "in an answer", "in a turn", "while a thread of its own goes on"],
)
def test_a_program_that_forgets_to_clean_up_ends(use: str, tmp_path: Path) -> None:
    """And says nothing of it. covers: C16"""
    code = f"""
from cc_bridge import ClaudeInstance, ClaudeOptions, blocking
claude = ClaudeOptions(program={str(STUB)!r})
record = ClaudeInstance.of(name="forgotten", kind="local", workspace={str(tmp_path)!r}, claude=claude, ephemeral=True)
instance = blocking.LocalProcess(record)
{use}
"""
    environment = {**os.environ, "CC_BRIDGE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=_LIMIT, cwd="/"
    )
    stop = ClaudeInstance.of(name="forgotten", kind="local", workspace=tmp_path, ephemeral=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC_BRIDGE_HOME", str(tmp_path / "state"))
        patch.setenv("HOME", str(tmp_path))
        blocking.LocalProcess(stop).cleanup()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_forked_process_has_an_event_loop_of_its_own() -> None:
    """Whatever the parent's threads did as it was forked. covers: C16"""
    code = f"""
import os, signal, threading
from cc_bridge import blocking, event_loop

class Instance:
    record = None
    async def is_running(self): return True
    async def cleanup(self): pass
    async def release(self): pass

instance = blocking.BlockingInstance(Instance())
instance.is_running()
held = threading.Event()
def hold():
    with event_loop._event_loop._lock, instance._loop._lock:
        held.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if not child:
    signal.alarm({int(_LIMIT) // 2})
    own = blocking.BlockingInstance(Instance())
    works = own.is_running() and instance.is_running()
    instance.cleanup()
    own.cleanup()
    os._exit(0 if works and threading.active_count() == 1 else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=_LIMIT)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_event_loop_serves_all_and_ends_with_the_last_one(tmp_path: Path, event_loops: Callable[[], int]) -> None:
    first, second = FakeInstance(tmp_path), FakeInstance(tmp_path)
    one, other = BlockingInstance(first), BlockingInstance(second)
    one.start()
    other.start()
    assert len(first.threads | second.threads) == 1
    one.cleanup()
    assert event_loops() == 1
    assert other.is_running()
    other.cleanup()
    assert event_loops() == 0


def test_nothing_runs_before_the_first_call_and_after_the_with_statement(
    fake: FakeInstance, event_loops: Callable[[], int]
) -> None:
    made = BlockingInstance(fake)
    assert event_loops() == 0
    with made as instance:
        assert instance is made
    assert fake.asked == ["start", "cleanup"]
    assert event_loops() == 0


def test_the_with_statement_cleans_up_after_an_error_in_its_body(
    fake: FakeInstance, event_loops: Callable[[], int]
) -> None:
    with pytest.raises(ZeroDivisionError), BlockingInstance(fake):
        raise ZeroDivisionError
    assert fake.asked == ["start", "cleanup"]
    assert event_loops() == 0


def test_a_start_that_fails_leaves_nothing(fake: FakeInstance, event_loops: Callable[[], int]) -> None:
    fake.broken["start"] = ClaudeNotFound("there is no claude")
    with pytest.raises(ClaudeNotFound), BlockingInstance(fake):
        pytest.fail("it has not started")
    assert fake.asked == ["start", "cleanup"]
    assert event_loops() == 0


def test_closing_twice_is_harmless(fake: FakeInstance, event_loops: Callable[[], int]) -> None:
    instance = BlockingInstance(fake)
    instance.start()
    instance.cleanup()
    instance.cleanup()
    assert event_loops() == 0


def test_an_instance_that_was_cleaned_up_can_be_used_again(fake: FakeInstance, event_loops: Callable[[], int]) -> None:
    instance = BlockingInstance(fake)
    instance.start()
    instance.cleanup()
    assert instance.send_command_and_wait("hello") == (True, "hello!")
    instance.cleanup()
    assert event_loops() == 0


@pytest.mark.parametrize("conversation", [False, True])
def test_removing_is_the_end_as_well(fake: FakeInstance, conversation: bool, event_loops: Callable[[], int]) -> None:
    instance = BlockingInstance(fake)
    instance.remove(conversation=conversation)
    assert fake.asked == [f"remove conversation={conversation}", "cleanup"]
    assert event_loops() == 0


def test_removing_in_vain_gives_back_what_the_object_holds(fake: FakeInstance, event_loops: Callable[[], int]) -> None:
    fake.broken["remove conversation=False"] = EngineUnavailable("no engine answers")
    with pytest.raises(EngineUnavailable):
        BlockingInstance(fake).remove()
    assert fake.asked == ["remove conversation=False", "cleanup"]
    assert event_loops() == 0


@pytest.mark.parametrize("how", ["a step", "the result", "an interruption", "a generator"])
def test_a_turn_that_is_read_after_the_clean_up_holds_nothing_afterwards(
    instance: BlockingInstance, fake: FakeInstance, how: str, event_loops: Callable[[], int]
) -> None:
    turn, answer = instance.submit("hello"), instance.send_command("hello")
    assert next(answer) == "hello"
    instance.cleanup()
    fake.asked.clear()
    if how == "a step":
        assert isinstance(next(turn), TurnStarted)
    elif how == "the result":
        assert turn.result().text == "hello!"
    elif how == "an interruption":
        turn.interrupt()
    else:
        list(answer)  # which has ended with the event loop
    assert set(fake.asked) == {"release"}
    assert event_loops() == 0


def test_the_record_is_the_instances_own(instance: BlockingInstance, fake: FakeInstance, tmp_path: Path) -> None:
    """Which changes, as with `cc-bridge update`."""
    fake.record = ClaudeInstance.of(name="other", kind="local", workspace=tmp_path)
    assert instance.record is fake.record


def test_no_event_loop_stays_where_the_clean_up_fails(fake: FakeInstance, event_loops: Callable[[], int]) -> None:
    """Its thread would keep the program from ending."""
    fake.broken["cleanup"] = EngineUnavailable("no engine answers")
    instance = BlockingInstance(fake)
    with pytest.raises(EngineUnavailable):
        instance.cleanup()
    assert event_loops() == 0
    with pytest.raises(EngineUnavailable):
        instance.remove()
    assert event_loops() == 0


def test_what_is_left_after_the_clean_up_starts_no_event_loop_that_stays(
    fake: FakeInstance, event_loops: Callable[[], int]
) -> None:
    """A generator that outlives the ``with`` statement is closed whenever Python collects it."""
    with BlockingInstance(fake) as instance:
        answer = instance.send_command("hang")
        next(answer)
        turn = instance.submit("hang", id="t1")
    answer.close()
    turn.close()
    assert fake.sources["t1"].asked[-1][0] == "abandoned"
    assert event_loops() == 0
    assert instance.send_command_and_wait("hello") == (True, "hello!")
    answer.close()
    assert event_loops() == 1, "closing ends no event loop that others use"
    instance.cleanup()
