"""Containers: made, started, watched while they start, measured, ended."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio

from ..errors import ContainerNotFound, ContainerStartError, EngineError, EngineTimeout, EngineUnavailable, NameConflict
from ..values import Value
from .client import OPERATION_LIMIT, PAUSES, Engine
from .container_spec import ContainerSpec, docker_words
from .labels import NONCE, OWN_LABELS, label_filter
from .streams import Chunk, Demultiplexer, raw_socket, read_until
from .usage import Usage, usage_of

if TYPE_CHECKING:
    import docker

__all__ = [
    "ContainerInfo",
    "ContainerSummary",
    "Containers",
]

_OUTPUT = {"stdout": 1, "stderr": 1, "stream": 1, "logs": 0}

#: What podman says of a container that it has not cleaned up after, and seconds between tries.
_IMPROPER, _CLEANING_UP = "container state improper", (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)


class ContainerInfo(Value):
    """What the engine says about a container.

    Attributes:
        status: ``created``, ``running``, ``paused``, ``restarting``, ``removing``, ``exited`` or ``dead``.
        networks: network name to address.
        exit_code: of its last run.
        error: why it could not be started.
        pid: of the main process, on the engine's machine; 0: not running.
    """

    id: str
    name: str
    image: str
    status: str
    created: str
    labels: Mapping[str, str]
    ports: Mapping[str, Any]
    networks: Mapping[str, str]
    volumes: Sequence[str]
    limits: Mapping[str, Any]
    health: str
    exit_code: int
    oom_killed: bool
    error: str = ""
    pid: int = 0

    @property
    def running(self) -> bool:
        """Running and not paused."""
        return self.status == "running"


class ContainerSummary(Value):
    """A line of the listing.

    Attributes:
        about: the engine's status text, e.g. "Up 3 hours".
        created: seconds since 1970.
    """

    id: str
    name: str
    image: str
    status: str
    about: str
    created: int
    labels: Mapping[str, str]


class Containers:
    """The engine's containers.

    Raises, from every method:
        EngineError: of the kind that fits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create(self, spec: ContainerSpec) -> str:
        """Create it and return its id. Cancellation waits until it is created: otherwise it could not be removed.

        After an unclear response it checks before it retries, so that never two are created.

        Raises:
            NameConflict: another container has the name.
            ImageNotFound: as it says.
        """
        client = await self._engine.client()
        nonce = os.urandom(16).hex()
        options = spec.options()
        # Containers inherit their image's labels: override ours, so that an image cannot set them.
        options["labels"] = {**dict.fromkeys(OWN_LABELS, ""), **options["labels"], NONCE: nonce}
        self._engine.log_command(*docker_words(spec))
        with anyio.CancelScope(shield=True):
            for pause in (*PAUSES, None):
                try:
                    return str((await self._engine.call(client.containers.create, **options)).id)
                except NameConflict:
                    return await self._made(spec.name, nonce)
                except (EngineUnavailable, EngineTimeout):
                    if pause is None:
                        raise
                    await anyio.sleep(pause)  # back-off
                    if await self._is_there(spec.name):
                        return await self._made(spec.name, nonce)
        raise AssertionError("every way out of the loop is above")

    async def _is_there(self, name: str) -> bool:
        try:
            await self.inspect(name)
        except ContainerNotFound:
            return False
        return True

    async def _made(self, name: str, nonce: str) -> str:
        """The id of the container that an earlier request created."""
        try:
            info = await self.inspect(name)
        except ContainerNotFound:  # a name is taken shortly before its container is listed
            raise NameConflict(f"a container named {name} is being made") from None
        if info.labels.get(NONCE) != nonce:
            raise NameConflict(f"a container named {name} exists already")
        return info.id

    async def start(self, name: str, awaited: Sequence[str] = (), limit: float = OPERATION_LIMIT) -> str:
        """Start it, and return which of the awaited texts it logs first.

        Args:
            limit: seconds.

        Raises:
            ContainerStartError: it ended or timed out without any; quotes its last lines.
        """
        client = await self._engine.client()
        shown = ("start", name)
        if not awaited:
            try:
                await self._engine.call(client.api.start, name, repeat=True, shown=shown)
            except (ContainerNotFound, EngineUnavailable, EngineTimeout):
                raise
            except EngineError as error:
                raise ContainerStartError(error.what, hint=error.hint) from error
            return ""
        # Attached before the start, so that no line is missed and nothing is polled.
        fd, early = await self._attach_to_start(client, name)
        try:
            await self._engine.call(client.api.start, name, shown=shown)
            found, lines = await read_until(fd, early, awaited, limit)
        except (ContainerNotFound, EngineUnavailable, EngineTimeout):
            raise
        except EngineError as error:
            raise ContainerStartError(error.what, hint=error.hint) from error
        finally:
            os.close(fd)
        if found is None:
            last = lines.strip()[-1000:] or "it logged nothing"
            raise ContainerStartError(f"the container did not come up within {limit:g} s: {last}")
        return found

    async def _attach_to_start(self, client: docker.DockerClient, name: str) -> tuple[int, bytes]:
        """Podman attaches to nothing that it has stopped and not yet cleaned up after, which takes it a moment."""
        for pause in _CLEANING_UP:
            try:
                return await self._engine.call(lambda: raw_socket(client.api.attach_socket(name, params=_OUTPUT)))
            except EngineError as error:
                if _IMPROPER not in error.what:
                    raise
                await anyio.sleep(pause)  # back-off: it tells nobody when it is done
        return await self._engine.call(lambda: raw_socket(client.api.attach_socket(name, params=_OUTPUT)))

    async def attach(self, name: str, *, stdin: bool = False, logs: bool = False) -> tuple[int, bytes]:
        """Connect to the main process: a socket, which the caller closes, and bytes read already.

        Call it before the start, so that no output is missed; or with ``logs``, which is what it has said before.
        """
        client = await self._engine.client()
        wanted = {**_OUTPUT, "stdin": int(stdin), "logs": int(logs)}
        return await self._engine.call(lambda: raw_socket(client.api.attach_socket(name, params=wanted)))

    async def inspect(self, name: str) -> ContainerInfo:
        """Its configuration and state."""
        client = await self._engine.client()
        return _info(await self._engine.call(client.api.inspect_container, name, repeat=True))

    async def labelled(self, labels: Mapping[str, str]) -> list[ContainerSummary]:
        """Those with all these labels, running or not, newest first; an empty value matches any."""
        client = await self._engine.client()
        wanted = label_filter(labels)
        shown = ["ps", "--all", *(word for label in wanted for word in ("--filter", f"label={label}"))]
        found = await self._engine.call(
            client.api.containers, all=True, filters={"label": wanted}, repeat=True, shown=shown
        )
        return [
            ContainerSummary(
                id=raw["Id"],
                name=(raw.get("Names") or [""])[0].lstrip("/"),
                image=str(raw.get("Image", "")),
                status=str(raw.get("State", "unknown")).lower(),
                about=str(raw.get("Status", "")),
                created=int(raw.get("Created") or 0),
                labels=dict(raw.get("Labels") or {}),
            )
            for raw in found
        ]

    async def stop(self, name: str, grace: float) -> None:
        """SIGTERM, ``grace`` seconds, SIGKILL. Does nothing if it is stopped or gone."""
        seconds = int(grace)
        await self._call_unless_gone(
            lambda client: client.api.stop(name, timeout=seconds),
            limit=grace + 30,
            shown=("stop", "--time", str(seconds), name),
        )

    async def restart(self, name: str, grace: float) -> None:
        """Stop as :meth:`stop` does, and start."""
        client, seconds = await self._engine.client(), int(grace)
        shown = ("restart", "--time", str(seconds), name)
        await self._engine.call(client.api.restart, name, timeout=seconds, limit=grace + 30, shown=shown)

    async def kill(self, name: str, signal: str = "KILL") -> None:
        """Send a signal to the main process."""
        client = await self._engine.client()
        await self._engine.call(client.api.kill, name, signal, shown=("kill", "--signal", signal, name))

    async def wait(self, name: str, condition: str, limit: float) -> bool:
        """Wait until it is ``not-running`` or ``removed``; False after ``limit`` seconds."""
        client = await self._engine.client()
        try:
            await self._engine.call(client.api.wait, name, timeout=limit, condition=condition, limit=limit + 5)
        except ContainerNotFound:
            return True
        except EngineTimeout:
            return False
        return True

    async def unpause(self, name: str) -> None:
        """Resume a paused container."""
        client = await self._engine.client()
        await self._engine.call(client.api.unpause, name, shown=("unpause", name))

    async def remove(self, name: str, *, force: bool = True) -> None:
        """Kill (with ``force``) and remove it and its anonymous volumes. Does nothing if it is gone."""
        await self._call_unless_gone(
            lambda client: client.api.remove_container(name, force=force, v=True),
            shown=["rm", *(["--force"] if force else []), "--volumes", name],
        )

    async def usage(self, name: str) -> Usage:
        """Its resource usage, measured over about a second."""
        client = await self._engine.client()
        shown = ("stats", "--no-stream", name)
        return usage_of(await self._engine.call(client.api.stats, name, stream=False, shown=shown))

    async def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float = 0,
        timestamps: bool = False,
        tty: bool = False,
    ) -> AsyncGenerator[Chunk, None]:
        """Its output, stdout and stderr apart; with ``follow`` until it ends.

        Args:
            tail: begin with this many last lines; None: all that the engine has kept.
            since: seconds since 1970.
            tty: it has a terminal, so all output is stdout.
        """
        client = await self._engine.client()
        last = "all" if tail is None else str(tail)
        wanted = {
            "stdout": 1,
            "stderr": 1,
            "follow": int(follow),
            "tail": last,
            "since": since,
            "timestamps": int(timestamps),
        }
        shown = [
            "logs",
            "--tail",
            last,
            *(["--follow"] if follow else []),
            *(["--since", f"{since:.3f}"] if since else []),
        ]
        shown += ["--timestamps"] if timestamps else []

        def read() -> Generator[bytes]:
            # The SDK's own method merges stdout and stderr.
            url = client.api._url("/containers/{0}/logs", name)
            # No read timeout: a quiet container is not an error.
            answer = client.api.get(url, params=wanted, stream=True, timeout=(OPERATION_LIMIT, None))
            with answer:
                client.api._raise_for_status(answer)
                while data := answer.raw.read1(65536):
                    yield data

        demultiplexer = Demultiplexer(tty=tty)
        async with aclosing(self._engine.stream(read, shown=[*shown, name])) as received:
            async for data in received:
                for chunk in demultiplexer.feed(data):
                    yield chunk

    async def _call_unless_gone(
        self, act: Callable[[Any], object], limit: float = OPERATION_LIMIT, shown: Sequence[str] = ()
    ) -> None:
        client = await self._engine.client()
        try:
            await self._engine.call(act, client, limit=limit, repeat=True, shown=shown)
        except ContainerNotFound:
            pass
        except EngineError as error:
            if "already in progress" not in error.what:  # another host is removing it
                raise


def _info(raw: Mapping[str, Any]) -> ContainerInfo:
    state, config, host = raw.get("State", {}), raw.get("Config", {}), raw.get("HostConfig", {})
    network = raw.get("NetworkSettings", {})
    return ContainerInfo(
        id=raw["Id"],
        name=str(raw.get("Name", "")).lstrip("/"),
        image=str(config.get("Image", "")),
        status=str(state.get("Status", "unknown")),
        created=str(raw.get("Created", "")),
        labels=dict(config.get("Labels") or {}),
        ports=dict(network.get("Ports") or {}),
        networks={name: str(of.get("IPAddress", "")) for name, of in (network.get("Networks") or {}).items()},
        volumes=tuple(_volume(mount) for mount in raw.get("Mounts") or ()),
        limits={
            "memory": host.get("Memory"),
            "cpus": (host.get("NanoCpus") or 0) / 1e9,
            "pids": host.get("PidsLimit"),
            "read_only": host.get("ReadonlyRootfs"),
            "network": host.get("NetworkMode"),
        },
        health=str((state.get("Health") or {}).get("Status", "")),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        pid=int(state.get("Pid") or 0),
    )


def _volume(mount: Mapping[str, Any]) -> str:
    source = mount.get("Name") or mount.get("Source") or ""
    return f"{source}:{mount.get('Destination', '')}:{'rw' if mount.get('RW') else 'ro'}"
