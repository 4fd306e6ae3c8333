"""What was chosen while the instance ran, kept beside its record: the model, and the permission mode.

Not in the record, because that is what the instance was made with, and says whether another program means the same one.
"""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..protocol.command_line import ClaudeOptions
from ..state import unusable, write_whole
from .steps import exclusive

__all__ = ["BYPASS", "Chosen"]

#: Seconds for another program to ask, for which it may have to be started: as long as an image may take to be built.
_OTHERS = 1800.0

#: The mode in which nothing is asked.
BYPASS = "bypassPermissions"


class Chosen:
    """The choices of one instance; each is in effect until it, or the record's own field, is changed.

    Args:
        home: the instance's directory.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "chosen.json"

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """Held over asking and keeping, in all programs: what is kept is what was asked for last.

        Raises:
            InstanceBusy: another program has held it for too long.
        """
        return exclusive(self._path.with_suffix(".lock"), _OTHERS, self._path.parent.name)

    def keep(self, options: ClaudeOptions, field: str, value: str) -> None:
        """Keep a choice for the next Claude Code.

        Args:
            options: the record's.
            field: ``model`` or ``permission_mode``.
            value: empty: Claude Code's own default.

        Raises:
            InvalidInput: it cannot be written.
        """
        choices = {**self._read(), field: {"chosen": value, "instead_of": getattr(options, field)}}
        try:
            write_whole(self._path, json.dumps(choices).encode("ascii"))
        except FileNotFoundError:  # the instance is being removed
            return
        except OSError as error:
            raise unusable(self._path.parent, error) from error

    def applied(self, options: ClaudeOptions) -> ClaudeOptions:
        """The record's options with what was chosen since."""
        choices = self._read()
        model = _choice(choices.get("model"), options.model)
        mode = _choice(choices.get("permission_mode"), options.permission_mode)
        if model is not None:
            options = replace(options, model=model)
        if mode is not None:
            options = replace(options, permission_mode=mode)
        if options.skip_permissions and mode not in (None, "", BYPASS):
            # It would skip them from the start; so it may, when it is told to.
            may = (*options.extra, "--allow-dangerously-skip-permissions")
            options = replace(options, skip_permissions=False, extra=may)
        return options

    def _read(self) -> dict[str, Any]:
        try:
            choices = json.loads(self._path.read_text(errors="replace"))
        except (OSError, ValueError, RecursionError):  # none was made, or a crash has torn it
            return {}
        return choices if isinstance(choices, dict) else {}


def _choice(choice: Any, recorded: str) -> str | None:
    """What was chosen instead of what the record says, if that still says so; None: nothing."""
    match choice:
        case {"chosen": str(value), "instead_of": str(before)} if before == recorded:
            return value
    return None
