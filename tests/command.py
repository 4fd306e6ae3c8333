"""The command as a script runs it, and as a person at a terminal does."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from typing import Any

COMMAND = [sys.executable, "-c", "from cc_bridge.cli.main import run; run()"]


def cc(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"timeout": 60, **({} if "input" in options else {"stdin": subprocess.DEVNULL}), **options}
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, **options)


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
