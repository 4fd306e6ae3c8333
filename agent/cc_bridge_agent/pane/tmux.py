"""The tmux server, session and pane in which Claude Code runs."""

import asyncio
import os
import signal
from typing import List, Optional

from ..spawn import die_with_parent

#: Seconds for a command of tmux's, and for its server to listen.
_LIMIT = 10.0

#: Keys as bytes. Escape as CSI u (fixterms): alone, because ESC and a key soon after it would be Alt and that key.
_KEYS = {"editor": "07", "stash": "13", "enter": "0d", "escape": "1b 5b 32 37 75"}


class TmuxError(Exception):
    """tmux could not do what it was asked for; the text is its own."""


class Tmux:
    """One pane.

    Args:
        socket: of a server of the pane's own, which is started here and ends with this program; or of the user's
            (``own=False``).
    """

    def __init__(self, socket: str, *, own: bool) -> None:
        self.socket = socket
        self.own = own
        self.pane = ""
        self._taken_over = False
        self.server: Optional[asyncio.subprocess.Process] = None

    async def start_server(self) -> None:
        """Start the pane's own server.

        Raises:
            TmuxError: it does not come up.
        """
        os.makedirs(os.path.dirname(self.socket), mode=0o700, exist_ok=True)
        self.server = await _spawn("-f", "/dev/null", "-D", server=self.socket)
        for pause in [0.005 * 1.3**step for step in range(24)]:
            try:
                await self.run("set-option", "-g", "status", "off")
                break
            except TmuxError as error:
                if self.server.returncode is not None or pause > 2:
                    raise TmuxError("the tmux server does not start: %s" % error) from None
                await asyncio.sleep(pause)  # back-off: nothing tells when a new server listens
        await self.run("set-option", "-g", "window-size", "latest")

    async def open(self, program: str, *, name: str, size: str, cwd: str, pane: str) -> None:
        """Run the program in a new session, or in place of what runs in a pane that is there."""
        if pane:
            await self.run("respawn-pane", "-k", "-t", pane, "-c", cwd, program)
            self.pane, self._taken_over = pane, True
        else:
            await self._clear(name)
            width, _, height = size.partition("x")
            words = ["new-session", "-d", "-s", name, "-x", width, "-y", height, "-c", cwd]
            self.pane = (await self.run(*words, "-P", "-F", "#{pane_id}", program)).strip()
        await self.run("set-option", "-p", "-t", self.pane, "@cc-bridge", name)

    async def _clear(self, name: str) -> None:
        """End what a killed program has left of this name."""
        try:
            left = await self.run("list-panes", "-a", "-f", "#{==:#{@cc-bridge},%s}" % name, "-F", "#{pane_id}")
        except TmuxError:
            return  # no server yet
        for pane in left.split():
            await self.run("kill-pane", "-t", pane)

    async def press(self, key: str) -> None:
        """Press a key in the pane, by its name in ``_KEYS``."""
        await self.run("send-keys", "-t", self.pane, "-H", *_KEYS[key].split())

    async def screen(self) -> str:
        """What the pane shows, for error messages only."""
        try:
            return await self.run("capture-pane", "-p", "-t", self.pane)
        except TmuxError:
            return ""

    async def close(self) -> None:
        """End what runs in the pane, and the server if it is the pane's own."""
        try:
            if self._taken_over:  # a person's: it gets a shell again
                await self.run("set-option", "-p", "-u", "-t", self.pane, "@cc-bridge")
                await self.run("respawn-pane", "-k", "-t", self.pane, os.environ.get("SHELL", "/bin/sh"))
            elif self.pane and not self.own:
                await self.run("kill-pane", "-t", self.pane)
        except TmuxError:
            pass  # it has ended
        if self.server is not None and self.server.returncode is None:
            self.server.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self.server.wait(), _LIMIT)

    async def run(self, *words: str) -> str:
        """A command of tmux's; what it prints.

        Raises:
            TmuxError: with tmux's own words.
        """
        process = await _spawn("-N", *words, server=self.socket)
        try:
            output, errors = await asyncio.wait_for(process.communicate(), _LIMIT)
        except asyncio.TimeoutError:
            process.kill()
            raise TmuxError("tmux %s: no answer within %g s" % (words[0], _LIMIT)) from None
        if process.returncode:
            raise TmuxError("tmux %s: %s" % (words[0], errors.decode("utf-8", "replace").strip()))
        return output.decode("utf-8", "replace")


async def _spawn(*words: str, server: str) -> asyncio.subprocess.Process:
    argv: List[str] = ["tmux", "-u", "-S", server, *words]
    env = {name: value for name, value in os.environ.items() if name not in ("TMUX", "TMUX_PANE")}
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe if "-D" not in words else asyncio.subprocess.DEVNULL,
            stderr=pipe if "-D" not in words else asyncio.subprocess.DEVNULL,
            env=env,
            preexec_fn=die_with_parent if "-D" in words else None,
        )
    except FileNotFoundError:
        raise TmuxError("tmux is not installed here: install the package tmux (3.2 or newer)") from None
