"""What this program is called where somebody looks at who is connected."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import PurePath

__all__ = ["this_program"]


def this_program() -> str:
    """Its name, process, user and machine: no arguments, which may be secret."""
    program = PurePath(sys.argv[0] if sys.argv else "").name
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    known = program if program and not program.startswith("-") else "python"
    return f"{known} (process {os.getpid()} of {user} on {os.uname().nodename})"
