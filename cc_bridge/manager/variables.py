"""The user's variables on their way into a container: by stdin or in a file, and so in no listing."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..engine.container_spec import ContainerSpec, Mount
from ..engine.labels import LABEL
from ..state import make_private

__all__ = ["VariableFiles", "exports", "from_stdin"]

#: Takes variables from so many bytes of stdin, and becomes the command: so they are in no listing. Byte by byte: what
#: follows them is the command's, and ``head -c`` may take a buffer full (BusyBox does).
_FROM_STDIN = 'eval "$(dd bs=1 count="$1" 2>/dev/null)"; shift; exec "$@"'

#: A container that stays has its variables in a file, which is mounted: it is started again without us.
_INSIDE = "/run/cc-bridge-variables"
_FROM_FILE = f'. {_INSIDE}; exec "$@"'
_LABEL = f"{LABEL}.variables"
_TOKEN = re.compile(r"[0-9a-f]{16}\Z")


def from_stdin(variables: Mapping[str, str], argv: Sequence[str]) -> tuple[list[str], bytes]:
    """A command that takes these variables from its stdin, and what must come there before its own."""
    lines = exports(variables)
    return ["sh", "-c", _FROM_STDIN, "sh", str(len(lines)), *argv], lines


class VariableFiles:
    """The files of containers that stay, in a directory of the state's: one each, named in a label."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "variables"

    def give(self, spec: ContainerSpec, variables: Mapping[str, str]) -> ContainerSpec:
        """The same with these variables for its main process, from a file that is mounted."""
        if not variables:
            return spec
        token = secrets.token_hex(8)
        make_private(self._directory)
        path = self._directory / token
        path.write_bytes(exports(variables))
        path.chmod(0o644)  # the container's user may have any number; the directory is private
        return replace(
            spec,
            command=["sh", "-c", _FROM_FILE, "sh", *(spec.command or ())],
            mounts=[*spec.mounts, Mount(str(path), _INSIDE, read_only=True)],
            labels={**spec.labels, _LABEL: token},
        )

    def command(self, labels: Mapping[str, str], argv: Sequence[str]) -> Sequence[str]:
        """The words that run a command with the variables of the container that has these labels."""
        return ["sh", "-c", _FROM_FILE, "sh", *argv] if labels.get(_LABEL) else argv

    def remove(self, labels: Mapping[str, str]) -> None:
        """Remove the file of the container that has these labels, if there is one."""
        if _TOKEN.match(token := labels.get(_LABEL, "")):
            (self._directory / token).unlink(missing_ok=True)

    def left(self, containers: Collection[Mapping[str, str]]) -> Sequence[Path]:
        """Those of containers that have gone, given the labels of all that are there."""
        used = {labels.get(_LABEL) for labels in containers}
        return [path for path in self._directory.glob("*") if path.name not in used]


def exports(variables: Mapping[str, str]) -> bytes:
    """Lines for ``sh`` that set these variables."""
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    return lines.encode("utf-8", "surrogateescape")
