"""A tmux pane of this machine, with the interactive Claude Code, which a program and a person share."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar, TypeVarTuple

import anyio.to_thread
import libtmux
from libtmux.exc import LibTmuxException

from ..bridge.surroundings import Launch
from ..errors import AgentUnavailable, InvalidInput
from ..login import KEYS, PARTS, decides, with_login
from ..protocol.command_line import ClaudeOptions, interactive_argv, pane_argv
from ..record import ClaudeInstance
from ..shapes import Kind
from .claude_settings import check_settings, without_login
from .process_place import ProcessPlace
from .registry import Registry, agent_archive

__all__ = ["PanePlace", "ask_tmux", "default_tmux_socket", "find_session"]

#: The user's, which the instance's own configuration begins with a copy of.
_COPIED = ("settings.json", "CLAUDE.md")

#: Seconds for a tmux server to answer.
_TMUX_LIMIT = 10.0

T = TypeVar("T")
Args = TypeVarTuple("Args")


class PanePlace(ProcessPlace):
    """A process whose agent runs the pane's program where it would run ``claude -p``.

    Nothing is read from the screen. The tmux server is the instance's own and ends with it, unless the record names
    the user's (``tmux_socket``), where it opens a session of the instance's name; with ``pane`` it takes over a Claude
    Code that a person has started there, which is started anew and goes on with its conversation.

    Claude Code's configuration is the instance's own, too, unless ``env`` names a ``CLAUDE_CONFIG_DIR`` or a ``HOME``,
    or a pane is taken over.
    """

    kind: ClassVar[Kind] = "tmux"

    def __init__(self, record: ClaudeInstance, registry: Registry) -> None:
        super().__init__(record, registry)
        if record.pane and not record.tmux_socket:
            self.socket = default_tmux_socket()
        else:
            self.socket = record.tmux_socket or self.home.tmux_socket

    @property
    def attach_argv(self) -> list[str]:
        """The command by which a person comes to the pane; Ctrl-B D leaves it."""
        target = self.record.pane or self.name.replace(".", "_")  # as tmux calls a session with a dot in its name
        return ["tmux", "-u", "-S", self.socket, "attach-session", "-t", target]

    async def launch(self, resume: str, *, fork: bool, begins: bool) -> Launch:
        """As everywhere, with a configuration of the pane's own where the user's is not taken."""
        launch = await super().launch(resume, fork=fork, begins=begins)
        if self._has_own_config:
            await anyio.to_thread.run_sync(self._prepare_config)
        return launch

    def _with_program(self, argv: list[str], program: str) -> list[str]:
        at = argv.index("--") + 1
        return [*argv[:at], program, *argv[at + 1 :]]

    def argv(self, options: ClaudeOptions, resume: str, fork: bool) -> list[str]:
        """The words that start the pane's program, which starts it."""
        record = self.record
        return pane_argv(
            [sys.executable, "-I", "-S", str(agent_archive(self.registry.root))],
            self.home.pane,
            interactive_argv(options, resume=resume, fork=fork),
            name=self.name,
            relay=record.relay,
            tmux_socket=self.socket if record.tmux_socket or record.pane else "",
            pane=record.pane,
            # The user's server has variables of its own: of two logins one would go to the other's address.
            unset=PARTS if record.tmux_socket or record.pane else (),
        )

    def claude_env(self, own: Mapping[str, str] | None = None) -> dict[str, str]:
        """The same, and the pane's own configuration."""
        env = super().claude_env(own)
        if self.record.key_is_outside:
            check_settings(self._config, self.name)
        return {**env, "CLAUDE_CONFIG_DIR": str(self.home.config)} if self._has_own_config else env

    async def check(self) -> None:
        """Also that there is tmux, and the pane to take over."""
        await super().check()
        if shutil.which("tmux") is None:
            raise InvalidInput("tmux is not installed on this machine", instance=self.name, hint="Install tmux 3.2+.")
        if self.record.pane and not await ask_tmux(self.socket, self._find_pane):
            what = f"there is no pane {self.record.pane} on the tmux server at {self.socket}"
            raise InvalidInput(what, instance=self.name, hint="`tmux list-panes -a` shows the panes.")

    @property
    def removes_session(self) -> bool:
        """Where the pane has a configuration of its own."""
        return self._has_own_config

    @property
    def _has_own_config(self) -> bool:
        return not self.record.pane and not {"CLAUDE_CONFIG_DIR", "HOME"} & set(self.record.env)

    @property
    def _config(self) -> Path:
        return self.home.config if self._has_own_config else super()._config

    def _prepare_config(self) -> None:
        """Begin with the user's settings and login; what is changed in the pane stays there."""
        own, users = self.home.config, super()._config
        own.mkdir(mode=0o700, exist_ok=True)
        for name in _COPIED:
            if (users / name).is_file() and not (own / name).exists():
                if name == "settings.json" and self.record.key_is_outside:
                    (own / name).write_text(without_login((users / name).read_text(errors="replace")))
                else:
                    shutil.copyfile(users / name, own / name)
        if self.record.key_is_outside:  # a login that is there is one that Claude Code reads
            return
        if decides(self.record.env) or any(with_login(self.record.env).get(name) for name in KEYS):
            return
        login = users / ".credentials.json"
        if login.is_file() and not (own / login.name).exists():
            (own / login.name).symlink_to(login)  # a copy would be refreshed once, and log the other out
        with suppress(OSError, ValueError):
            account = json.loads((users.parent / ".claude.json").read_text()).get("oauthAccount")
            if account and not (own / ".claude.json").exists():
                (own / ".claude.json").write_text(json.dumps({"oauthAccount": account}))

    async def info(self) -> dict[str, Any]:
        """Also the pane, and what it shows."""
        pane = await ask_tmux(self.socket, self._find_pane)
        shown = await ask_tmux(self.socket, _shown, pane) if pane else None
        return {
            **await super().info(),
            "tmux_socket": self.socket,
            "pane": pane.pane_id if pane else None,
            "attach": " ".join(self.attach_argv),
            "screen": shown,
        }

    def _find_pane(self) -> libtmux.Pane | None:
        """The instance's pane, which its user option names; or the one to take over."""
        try:
            panes = libtmux.Server(socket_path=self.socket).panes
            for pane in panes:
                if pane.pane_id == self.record.pane:
                    return pane
                marked = pane.cmd("show-options", "-p", "-v", "@cc-bridge").stdout
                if not self.record.pane and marked == [self.name]:
                    return pane
        except LibTmuxException:
            pass  # no server runs there
        return None


async def ask_tmux(socket: str, ask: Callable[[*Args], T], *args: *Args) -> T:
    """Ask a tmux server by libtmux, in a thread.

    libtmux waits without a limit, and a thread cannot be ended, nor the program before it: so a process that can be
    killed asks first.

    Raises:
        AgentUnavailable: the server does not answer.
    """
    try:
        with anyio.fail_after(_TMUX_LIMIT):
            with suppress(OSError):  # no tmux: libtmux says so
                await anyio.run_process(["tmux", "-S", socket, "list-sessions"], check=False)
            return await anyio.to_thread.run_sync(ask, *args, abandon_on_cancel=True)
    except TimeoutError:
        hint = "It may be suspended, or the machine be too busy."
        raise AgentUnavailable(f"the tmux server at {socket} does not answer", hint=hint) from None


def _shown(pane: libtmux.Pane) -> list[str]:
    lines = pane.capture_pane()
    return [line for line in lines if line.strip()]


def default_tmux_socket() -> str:
    """The socket of the tmux server that the user's ``tmux`` talks to (tmux(1): TMUX, TMUX_TMPDIR)."""
    if inside := os.environ.get("TMUX"):
        return inside.split(",")[0]
    return os.path.join(os.environ.get("TMUX_TMPDIR") or "/tmp", f"tmux-{os.getuid()}", "default")


def find_session(socket: str, pane_id: str) -> tuple[Path, str]:
    """Directory and session of the Claude Code that runs in a pane, so that it can be gone on with.

    Raises:
        InvalidInput: there is no such pane, or no conversation in its directory.
    """
    try:
        found = [pane for pane in libtmux.Server(socket_path=socket).panes if pane.pane_id == pane_id]
    except LibTmuxException:
        found = []
    if not found or not found[0].pane_current_path:
        raise InvalidInput(f"there is no pane {pane_id} on the tmux server at {socket}")
    directory = Path(found[0].pane_current_path)
    config = Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
    dashed = "".join(c if c.isalnum() and c.isascii() else "-" for c in str(directory))
    sessions = sorted((config / "projects" / dashed).glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    if not sessions:
        raise InvalidInput(
            f"no conversation of Claude Code's is known in {directory}, where the pane {pane_id} is",
            hint="Say something to it first; or start a new instance with `--on tmux`.",
        )
    return directory, sessions[-1].stem
