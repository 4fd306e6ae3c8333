"""Pass the user's variables into a container by stdin or a file, so that no listing shows them."""

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

#: Reads variables from the first bytes of stdin, then executes the command. Byte by byte, because the rest of stdin is
#: the command's, and ``head -c`` may read more (BusyBox does).
_FROM_STDIN = 'eval "$(dd bs=1 count="$1" 2>/dev/null)"; shift; exec "$@"'

#: A long-running container has its variables in a mounted file: the engine may restart it without us.
_INSIDE = "/run/cc-bridge-variables"
_FROM_FILE = f'. {_INSIDE}; exec "$@"'
_LABEL = f"{LABEL}.variables"
_TOKEN = re.compile(r"[0-9a-f]{16}\Z")


def from_stdin(variables: Mapping[str, str], argv: Sequence[str]) -> tuple[list[str], bytes]:
    """A command that reads these variables from its stdin, and the bytes to send before its input."""
    lines = exports(variables)
    return ["sh", "-c", _FROM_STDIN, "sh", str(len(lines)), *argv], lines


class VariableFiles:
    """Variables files of long-running containers, in the state directory; a label names each container's."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "variables"

    def give(self, spec: ContainerSpec, variables: Mapping[str, str]) -> ContainerSpec:
        """Add these variables for the main process, in a mounted file."""
        if not variables:
            return spec
        token = secrets.token_hex(8)
        make_private(self._directory)
        path = self._directory / token
        path.write_bytes(exports(variables))
        path.chmod(0o644)  # the container's user may have any id; the directory is private
        return replace(
            spec,
            command=["sh", "-c", _FROM_FILE, "sh", *(spec.command or ())],
            mounts=[*spec.mounts, Mount(str(path), _INSIDE, read_only=True)],
            labels={**spec.labels, _LABEL: token},
        )

    def command(self, labels: Mapping[str, str], argv: Sequence[str]) -> Sequence[str]:
        """Wrap a command so that it gets the variables of the container with these labels."""
        return ["sh", "-c", _FROM_FILE, "sh", *argv] if labels.get(_LABEL) else argv

    def remove(self, labels: Mapping[str, str]) -> None:
        """Remove the variables file of the container with these labels, if there is one."""
        if _TOKEN.match(token := labels.get(_LABEL, "")):
            (self._directory / token).unlink(missing_ok=True)

    def left(self, containers: Collection[Mapping[str, str]]) -> Sequence[Path]:
        """Files whose containers are gone, given the labels of all existing containers."""
        used = {labels.get(_LABEL) for labels in containers}
        return [path for path in self._directory.glob("*") if path.name not in used]


def exports(variables: Mapping[str, str]) -> bytes:
    """Shell lines that export these variables."""
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    return lines.encode("utf-8", "surrogateescape")
