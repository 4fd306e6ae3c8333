"""Commands, each in a container that is removed with it."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import anyio

from ..engine.containers import Containers
from ..engine.execs import LARGEST, ExecResult, Exit
from ..engine.streams import Chunk, Demultiplexer, read_chunks
from ..errors import LimitReached
from ..login import check_reachable
from .options import ContainerOptions, build_container_env, container_name
from .provisions import Provisions
from .variables import VariableFiles, from_stdin

__all__ = ["Commands"]

#: Seconds of one wait for a command's end; repeated until it ends.
_WAIT = 3600.0


class Commands:
    """Runs commands in new containers."""

    def __init__(self, containers: Containers, provisions: Provisions, variables: VariableFiles) -> None:
        self._containers = containers
        self._provisions = provisions
        self._variables = variables

    async def run(
        self, options: ContainerOptions, argv: Sequence[str], *, stdin: bytes | None, keep_container: bool
    ) -> ExecResult:
        """Run to completion and collect at most ``LARGEST`` bytes of output."""
        said: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        code = -1
        stream = self.stream(options, argv, stdin=stdin, tty=False, keep_container=keep_container)
        async with aclosing(stream) as output:
            async for item in output:
                if isinstance(item, Exit):
                    code = item.exit_code
                elif sum(map(len, said.values())) + len(item.data) > LARGEST:
                    what = f"the command has written more than {LARGEST} bytes"
                    raise LimitReached(what, hint="`run_command_streaming` has no limit.")
                else:
                    said[item.stream] += item.data
        return ExecResult(code, bytes(said[1]), bytes(said[2]))

    async def stream(
        self, options: ContainerOptions, argv: Sequence[str], *, stdin: bytes | None, tty: bool, keep_container: bool
    ) -> AsyncGenerator[Chunk | Exit, None]:
        """Output as it arrives, then an Exit; the container is removed however the iteration ends."""
        secret = build_container_env(options).secret
        if options.login and options.network != "host":
            check_reachable(secret)
        command, feed = list(argv), stdin
        if secret and not tty:
            command, lines = from_stdin(secret, argv)
            feed = lines + (stdin or b"")
        provided = await self._provisions.provide(options)
        name = f"{container_name(options.project)}-{secrets.token_hex(4)}"
        kind = "kept" if keep_container else "command"
        spec = self._provisions.spec(name, options, provided, command, kind, tty=tty, stdin=feed is not None)
        if tty:  # a terminal would echo them
            spec = self._variables.give(spec, secret)
        created = False
        try:
            await self._containers.create(spec)
            created = True
            fd, early = await self._containers.attach(name, stdin=feed is not None)
            try:
                await self._containers.start(name)
                async with aclosing(read_chunks(fd, early, Demultiplexer(tty=tty), feed)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                os.close(fd)
            while not await self._containers.wait(name, "not-running", _WAIT):
                pass  # it closed its output and still runs
            ended = await self._containers.inspect(name)
            yield Exit(ended.exit_code, ended.oom_killed)
        finally:
            if created and not keep_container:
                with anyio.CancelScope(shield=True):
                    await self._containers.remove(name)
            if not (created and keep_container):
                self._variables.remove(spec.labels)
