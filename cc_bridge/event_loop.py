"""One event loop for all who block: coroutine functions called from threads, and plain functions from coroutines."""

from __future__ import annotations

import _thread
import gc
import inspect
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from threading import RLock, Thread, get_ident
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal

from .errors import BridgeError

__all__ = ["Caller", "awaitable"]

P = ParamSpec("P")
T = TypeVar("T")


class _EventLoop:
    """An event loop in a thread of its own, for as long as somebody uses it.

    Not anyio's ``BlockingPortalProvider``: when Python ends, that waits for its thread, which Python has stopped
    already. So a program that had forgotten to clean up never ended.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = RLock()
        self._users = 0
        self._portal: BlockingPortal | None = None
        self._thread: Thread | None = None
        self._here: set[int] = set()  # more than one, while one that was left comes to its end

    def enter(self) -> BlockingPortal:
        with self._lock:
            if not self.serves(self._portal):
                self._users = 0
                ready: Future[BlockingPortal] = Future()
                self._thread = Thread(target=self._run, args=(ready,), name="cc-bridge", daemon=True)
                self._thread.start()
                self._portal = ready.result()
            self._users += 1
            assert self._portal
            return self._portal

    def serves(self, portal: BlockingPortal | None) -> bool:
        """Whether this is the portal now, and its event loop has not ended by itself."""
        return portal is not None and portal is self._portal and self._thread is not None and self._thread.is_alive()

    def is_here(self) -> bool:
        """Whether this is its own thread, which must not wait for it."""
        return get_ident() in self._here

    def refuse_here(self) -> None:
        if self.is_here():
            raise RuntimeError("this blocks, and cannot be called on the event loop: a plain function may")

    def leave(self, portal: BlockingPortal) -> None:
        with self._lock:
            if not self.serves(portal):
                return
            self._users -= 1
            if self._users:
                return
            self._portal, thread = None, self._thread
        # Without the lock: what still runs there may want a loop for another instance.
        portal.call(portal.stop)
        if thread:
            thread.join()

    def _run(self, ready: Future[BlockingPortal]) -> None:
        async def serve() -> None:
            async with BlockingPortal() as portal:
                ready.set_result(portal)
                await portal.sleep_until_stopped()

        self._here.add(get_ident())
        try:
            anyio.run(serve)
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            self._here.discard(get_ident())


_event_loop = _EventLoop()

#: The threads in which Python collects garbage now.
_collecting: set[int] = set()


def _note_collection(phase: str, _: dict[str, Any]) -> None:
    if phase == "start":
        _collecting.add(get_ident())
    else:
        _collecting.discard(get_ident())


gc.callbacks.append(_note_collection)


class _Carried(Exception):
    """What would end an event loop, such as SystemExit, on its way to the thread that has called."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


@contextmanager
def _carrying() -> Iterator[None]:
    try:
        yield
    except (Exception, GeneratorExit, anyio.get_cancelled_exc_class()):
        raise
    except BaseException as error:
        raise _Carried(error) from error


#: Those that a forked process inherits.
_callers: WeakSet[Caller] = WeakSet()


class Caller:
    """Calls coroutine functions from any number of threads; takes the event loop with the first call.

    Args:
        release: gives back what was taken on the event loop.
    """

    def __init__(self, release: Callable[[], Awaitable[None]]) -> None:
        self._release = release
        self.reset()
        _callers.add(self)

    def reset(self) -> None:
        """Forget the event loop, and whoever uses it."""
        self._lock = RLock()
        self._portal: BlockingPortal | None = None
        self._kept = False
        self._running: set[Callable[[], None]] = set()  # how to end each call
        # Not to be collected with the iterator: Python would close them at once, and so twice.
        self._open: set[AsyncGenerator[Any, None]] = set()

    def iterate(self, generator: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """What the generator yields; closing the iterator closes it, and Ctrl-C cancels its step and closes it."""
        # A step that Ctrl-C has cancelled may still be on its way out when the generator is closed, which waits for it.
        turnstile = anyio.Lock()

        async def step() -> T:
            async with turnstile:
                return await anext(generator)

        async def close() -> None:
            async with turnstile:
                await generator.aclose()
            self._open.discard(generator)

        self._open.add(generator)
        take: Callable[[Callable[[], Awaitable[T]]], T] = self.call
        try:
            while True:
                try:
                    item = take(step)
                except StopAsyncIteration:
                    return
                take = self.go_on
                yield item
        finally:
            self.close(close)

    def call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """What the function returns or raises; an exception in this thread, such as KeyboardInterrupt, cancels it."""
        return self._call(partial(function, *arguments), keeps=True, ends=True)

    def _call(self, function: Callable[[], Awaitable[T]], *, keeps: bool, ends: bool) -> T:
        """``keeps``: the event loop is wanted after the call, too; ``ends``: with :meth:`leave`, if not before."""
        _event_loop.refuse_here()  # and before the lock: who has it may wait for the event loop
        scopes: list[anyio.CancelScope] = []
        portal: BlockingPortal | None = None
        future: Future[T] | None = None
        error: Exception = RuntimeError("it was interrupted, and nobody waits for it")

        async def run() -> T:
            with anyio.CancelScope() as scope, _carrying():
                scopes.append(scope)
                return await function()
            raise error

        def cancel() -> None:
            for scope in scopes:
                scope.cancel()

        def end() -> None:
            nonlocal error
            error = BridgeError("the instance was cleaned up or released while this ran")
            cancel()

        try:
            with self._lock:  # so that no other thread ends the event loop between finding it and using it
                if self._portal is None or not _event_loop.serves(self._portal):
                    self._portal = _event_loop.enter()
                portal = self._portal
                self._kept = self._kept or keeps
                if ends:
                    self._running.add(end)
                future = portal.start_task_soon(run)
            return future.result()
        except _Carried as carried:
            raise carried.error from None
        except BaseException:  # raised again
            # Ctrl-C, and perhaps before there was a future to be cancelled, although the task has been started.
            if portal is not None and not (future and future.done()):
                with suppress(RuntimeError):  # the event loop is about to end: then the call has been cancelled
                    portal.start_task_soon(cancel)
            raise
        finally:
            self._running.discard(end)

    def close(self, function: Callable[[], Awaitable[None]]) -> None:
        """Call this; where the loop was left before, leave no event loop behind that nobody would end."""
        if sys.is_finalizing():
            return  # Python closes what is left; no other thread runs any more, and the event loop's never answers
        if get_ident() in _collecting or _event_loop.is_here():
            # Garbage is collected in any thread at any moment: with any lock held, and in the event loop's thread, too.
            # Here nothing may be waited for, and a Thread's start() waits.
            _thread.start_new_thread(self._close, (function,))
        else:
            self._close(function)

    def _close(self, function: Callable[[], Awaitable[None]]) -> None:
        try:
            self._call(function, keeps=False, ends=False)
        finally:
            if self._is_unused():
                self.leave()

    def go_on(self, function: Callable[[], Awaitable[T]]) -> T:
        """Call this, which belongs to an earlier call; where the loop was left since, hold nothing afterwards."""
        try:
            return self._call(function, keeps=False, ends=True)
        finally:
            if self._is_unused():
                self.finish(self._release)

    def _is_unused(self) -> bool:
        with self._lock:
            return self._portal is not None and not self._kept and not self._running

    def finish(self, *functions: Callable[[], Awaitable[None]]) -> None:
        """Call these in turn and leave, also where one of them fails."""
        with ExitStack() as stack:
            stack.callback(self.leave)
            for function in reversed(functions):
                stack.callback(self._call, function, keeps=False, ends=False)

    def leave(self) -> None:
        """Give the event loop back, and end the calls that still run; the next call takes it again."""
        _event_loop.refuse_here()
        with self._lock:
            portal, self._portal = self._portal, None
            running, self._running = list(self._running), set()
            self._kept = False
        if portal is None:
            return
        if _event_loop.serves(portal):
            for end in running:
                portal.call(end)
        _event_loop.leave(portal)


def _begin_anew() -> None:
    """A forked process has one thread: the event loop's is gone, and whoever held a lock."""
    _event_loop.reset()
    for caller in list(_callers):
        caller.reset()


os.register_at_fork(after_in_child=_begin_anew)


def awaitable(function: Callable[P, T | Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """A function as a coroutine function: a plain one runs in a thread, because it may block."""

    async def asked(*arguments: P.args, **more: P.kwargs) -> T:
        with _carrying():
            if inspect.iscoroutinefunction(function):
                answer: T | Awaitable[T] = function(*arguments, **more)
            else:
                # Not one of the forty threads that all share: it may take as long as a person takes to answer.
                own = anyio.CapacityLimiter(1)
                call = partial(function, *arguments, **more)
                answer = await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=own)
            return await answer if isinstance(answer, Awaitable) else answer

    return asked
