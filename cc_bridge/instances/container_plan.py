"""The container that a record asks for: what the engine is to make, and what must be there before."""

from __future__ import annotations

import shlex
import stat
from contextlib import suppress
from pathlib import Path

from .. import __version__
from ..beneath import create_file, make_directory, opened
from ..engine.container_spec import CONTAINER_HOME, ContainerSpec, Mount, user_for
from ..engine.labels import LABEL
from ..errors import InvalidInput
from ..login import login_file
from ..logs import Log
from ..mounts import docker_socket, split_mount
from ..record import ClaudeInstance
from .container_agent import AGENT, MAIN, PIPES, STATE
from .outline import path_inside
from .outside import agent_words, surroundings
from .place import GRACE, LINGER
from .registry import Home
from .worktrees import Worktree

__all__ = ["ContainerPlan", "planted"]


class ContainerPlan:
    """What the container of a record is like.

    Args:
        container: its name.
        home: the instance's directory, which is mounted where the engine is on this machine.
        install: the id of this installation, which its containers are labelled with.
        tree: the git worktree that was made for the instance.
        log: for what should be known and is no error.
    """

    def __init__(
        self, record: ClaudeInstance, container: str, home: Home, install: str, tree: Worktree | None, log: Log
    ) -> None:
        self.record = record
        self.container = container
        self._home = home
        self._install = install
        self._tree = tree
        self._log = log

    def of(self, record: ClaudeInstance, container: str) -> ContainerPlan:
        """That of another record of the same installation."""
        return ContainerPlan(record, container, self._home, self._install, None, self._log)

    @property
    def volumes(self) -> tuple[str, str]:
        """The home and the agent's state, where the engine is on another machine."""
        return f"{self.container}-home", f"{self.container}-state"

    @property
    def user(self) -> str:
        """The user in the container, as the engine wants it."""
        return self._user[0]

    @property
    def owner(self) -> tuple[int, int]:
        """Numbers of the container's user; where only its name is known, those of the first ordinary user."""
        user, _, group = self._user[0].partition(":")
        uid = int(user) if user.isdigit() else 1000
        return uid, int(group) if group.isdigit() else uid

    @property
    def _user(self) -> tuple[str, int | None]:
        """The user in the container, as the engine wants it, and its number if known."""
        if self.record.user:
            number = self.record.user.partition(":")[0]
            return self.record.user, int(number) if number.isdigit() else None
        uid, gid = user_for(self.record.workspace)
        return f"{uid}:{gid}", uid

    def inside(self, path: str) -> str | None:
        """Where a path is in the container: within the workspace, the mounts or its home; None: it is not there."""
        return path_inside(self.record, path)

    @property
    def labels(self) -> dict[str, str]:
        """By which it is found again."""
        return {
            f"{LABEL}.instance": self.record.name,
            f"{LABEL}.install": self._install,
            f"{LABEL}.project": self.record.project,
            f"{LABEL}.type": "ephemeral" if self.record.ephemeral else "persistent",
            f"{LABEL}.version": __version__,
            f"{LABEL}.created": self.record.created.isoformat(),
        }

    def spec(self, image: str, archive: Path, agent: str, *, remote: bool = False) -> ContainerSpec:
        """What the engine is to make.

        Args:
            image: its id or name.
            archive: the agent, on this machine.
            agent: its path in the container.
            remote: the engine is on another one.

        Raises:
            InvalidInput: something in the instance's directory stands where it must not.
        """
        record = self.record
        user, uid = self._user
        mounts = [
            *self._own_mounts(archive, remote=remote),
            *(Mount(*split_mount(mount)) for mount in record.mounts),
        ]
        if record.workspace is not None:
            mounts.append(Mount(str(record.workspace.resolve()), record.mount_at, record.read_only_workspace))
            if not remote:
                self._warn_of_unwritable(uid)
        shared = self._tree.mounts() if self._tree else ()
        mounts += [Mount(str(path), str(path), read_only) for path, read_only in shared]
        groups = []
        if record.docker_socket:
            path, group = docker_socket()
            mounts.append(Mount(path, path))
            groups.append(group)
            self._log.warning("docker_socket_given", risk="whoever has it is root on the engine's machine")
        if record.credentials:
            mounts.append(self._login_mount())
        command = ["sh", "-c", MAIN, "sh", agent, "serve", "--state", STATE, "--grace", str(GRACE)]
        command += [] if remote else ["--pipes", PIPES]
        command += agent_words(record)
        return ContainerSpec(
            name=self.container,
            image=image,
            command=[*command, "--linger", str(LINGER)] if record.ephemeral else command,
            user=user,
            labels={**record.labels, **self.labels},
            # The user's variables stay out of here: `docker inspect` shows it. They go in with Claude Code's start.
            environment={
                "HOME": CONTAINER_HOME,
                "TERM": "xterm-256color",
                **({"PROJECT_ID": record.project} if record.project else {}),
                **surroundings(record),
            },
            mounts=mounts,
            workdir=record.mount_at if record.workspace is not None else CONTAINER_HOME,
            network="none" if record.sealed else record.network,
            memory=record.memory,
            cpus=record.cpus,
            cpu_shares=record.cpu_shares,
            pids=record.pids,
            ports=record.ports,
            read_only=not record.writable,
            groups=groups,
            restart=record.restart,
            auto_remove=record.ephemeral,
        )

    def _own_mounts(self, archive: Path, *, remote: bool) -> list[Mount]:
        """What the agent and Claude Code need for themselves."""
        if remote:
            home_volume, state_volume = self.volumes
            return [Mount(home_volume, CONTAINER_HOME), Mount(state_volume, STATE)]
        home, journal = self._home.claude_home, self._home.journal
        with opened(self._home.path) as own:
            for directory in (home, journal):
                make_directory(own, directory.name, 0o777)  # the container's user may have any number; `own` is private
        return [
            Mount(str(self._home.pipes), PIPES, read_only=True),
            Mount(str(journal), STATE),
            Mount(str(home), CONTAINER_HOME),
            Mount(str(archive), AGENT, read_only=True),
        ]

    def _login_mount(self) -> Mount:
        """This user's login, read-only, where Claude Code looks for it in the container."""
        source = login_file()
        try:
            # Made by ourselves: the engine would make the directory root's.
            with opened(self._home.claude_home) as home:
                make_directory(home, ".claude", 0o777)
                with opened(".claude", home) as directory, suppress(FileExistsError):
                    create_file(directory, ".credentials.json", b"")
        except OSError as error:
            raise planted(self._home.claude_home / ".claude", error, self.record.name) from error
        return Mount(str(source), f"{CONTAINER_HOME}/.claude/.credentials.json", read_only=True)

    def _warn_of_unwritable(self, uid: int | None) -> None:
        """A wrong owner is no error, because reading may be all that is wanted, but it must not be a riddle."""
        record = self.record
        if record.workspace is None or record.read_only_workspace or uid is None:
            return
        found = record.workspace.stat()
        writable = found.st_mode & (stat.S_IWUSR if found.st_uid == uid else stat.S_IWOTH)
        if not writable:
            fix = f"chown -R {uid} {shlex.quote(str(record.workspace))}"
            self._log.warning(
                "workspace_not_writable", workspace=str(record.workspace), user=uid, owner=found.st_uid, remedy=fix
            )


def planted(path: Path, error: OSError, instance: str = "") -> InvalidInput:
    """The error for something in a directory of a container's that stands where a directory should be."""
    what = f"{path} cannot be used: {error.strerror}"
    return InvalidInput(what, instance=instance, hint="Something in the container may have put it there; remove it.")
