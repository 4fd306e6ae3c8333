"""What a tree of processes uses. covers: P4"""

from __future__ import annotations

import os
import subprocess
import sys

from cc_bridge.fleet.memory import used_by_tree

MB = 1024 * 1024

#: Has so many bytes, and a child that has as many, and then waits to be told to end.
_PROGRAM = """
import subprocess, sys
content = bytearray(b"x") * (30 * 1024 * 1024)
if sys.argv[1] != "0":
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2], "0", ""], stdout=subprocess.PIPE, stdin=0)
    child.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_process_counts_with_its_children() -> None:
    argv = [sys.executable, "-c", _PROGRAM, "1", _PROGRAM]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        used = used_by_tree(parent.pid)
        assert parent.stdin is not None
        parent.stdin.close()
    assert 60 * MB < used < 150 * MB


def test_what_has_ended_uses_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert used_by_tree(process.pid) == 0


def test_oneself() -> None:
    assert used_by_tree(os.getpid()) > MB
