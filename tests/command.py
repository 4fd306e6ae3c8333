"""The command as a script runs it, and as a person at a terminal does."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests import forked

COMMAND = [sys.executable, "-c", "from cc_bridge.cli.main import run; run()"]


#: Variables that Python and its libraries look at when they are imported.
_AT_IMPORT = ("PYTHON", "LC_", "LANG", "TERM", "TYPER_", "_CC_BRIDGE_COMPLETE", "LD_", "TZ")


def cc(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end: in a process that is forked, or, for what that cannot do, in one that is started."""
    options = {"timeout": 60, "env": dict(os.environ), "cwd": os.getcwd(), **options}
    options["env"] = {name: str(value) for name, value in options["env"].items()}
    if options.keys() == {"timeout", "env", "cwd"} and _of_import(options["env"]) == _of_import(os.environ):
        return forked.run(list(map(str, words)), **{**options, "cwd": str(options["cwd"])})
    options |= {} if "input" in options else {"stdin": options.get("stdin", subprocess.DEVNULL)}
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, **options)


def _of_import(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_IMPORT)}


#: A line editor turns "bracketed paste" on when it is ready for a line.
PROMPTED = "\x1b[?2004h"


class Terminal:
    """A person at a terminal."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp(argv[0], argv)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        while text not in self.seen:
            assert select.select([self.fd], [], [], 30)[0], f"no {text!r}, but {self.seen!r}"
            data = os.read(self.fd, 4096).decode("utf-8", "replace")
            self.seen += data
            if "\x1b[6n" in data:  # prompt_toolkit asks where the cursor is, and waits for a terminal's answer
                os.write(self.fd, b"\x1b[1;1R")
        self.seen = self.seen.split(text, 1)[1]

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        try:
            while select.select([self.fd], [], [], 30)[0] and os.read(self.fd, 4096):
                pass
        except OSError:
            pass  # EIO is a terminal's end of file
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            os.kill(self.pid, signal.SIGTERM)
            self.end()
        os.close(self.fd)
