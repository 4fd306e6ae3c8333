"""The record of an instance as it is kept in the state directory, for one object that uses the instance."""

from __future__ import annotations

import copy
import fcntl
from contextlib import suppress
from dataclasses import replace

from ..beneath import opened
from ..errors import InstanceDiffers, InvalidInput
from ..record import ClaudeInstance
from ..state import unusable
from .registry import Home, can_change, let_go

__all__ = ["KeptRecord", "change_image"]


class KeptRecord:
    """Compares the object's record with the kept one, and says to other programs that the instance is used."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._seen: ClaudeInstance | None = None  # the kept one, when it was last looked at
        self._held: int | None = None

    def take(self, record: ClaudeInstance) -> tuple[ClaudeInstance, bool]:
        """Have the instance's directory, with its pipes and its record, and hold it until :meth:`let_go`.

        Returns:
            The record, with what was changed in the kept one; and whether it was not kept before.

        Raises: as :meth:`check`; InvalidInput: the directory cannot be made, and none that is new stays.
        """
        try:
            return self._take(record)
        except InvalidInput:
            with suppress(InvalidInput, OSError):
                if not self._home.exists():  # a full disk, say: nothing would list the directory, or remove it
                    self._forget()
            raise

    def _take(self, record: ClaudeInstance) -> tuple[ClaudeInstance, bool]:
        self._home.prepare()
        held, self._held = self._held, self._home.hold()
        if held is not None:
            let_go(held)
        if (kept := self.check(record)) is not None:
            return kept, False
        try:
            self._home.save(record, new=True)
        except FileExistsError:  # another program was first
            return self.check(record) or record, False
        except OSError as error:
            raise unusable(self._home.path, error) from error
        self._seen = copy.deepcopy(record)
        return record, True

    def check(self, record: ClaudeInstance) -> ClaudeInstance | None:
        """The record with what was changed in the kept one, if that is the same instance; None: none is kept.

        Raises:
            InstanceDiffers: it is another, or this object's record was changed.
            InvalidInput: the kept one cannot be read.
        """
        if not self._home.exists():
            return None
        kept, before, name = self._home.load(), self._seen, record.name
        if before is not None and not record.differences(before) and _can_have(kept, before):
            record = kept
        elif record.rules <= kept.rules:  # somebody has answered "always" since
            record = replace(record, rules=kept.rules)
        if differences := record.differences(kept):
            change = f"`cc-bridge update {name} …` or `Registry().update({name!r}, …)` changes that"
            new = f"`cc-bridge rm {name}` makes room for a new one"
            hint = f"{change if can_change(differences) else new}; or take another name."
            raise InstanceDiffers(differences, instance=name, hint=hint)
        self._seen = copy.deepcopy(kept)
        return record

    def _forget(self) -> None:
        self.let_go()
        with self._home.claimed() as unused:
            if unused:
                self._home.remove()

    def let_go(self) -> None:
        """Say that this object uses the instance no longer."""
        if self._held is not None:
            let_go(self._held)
            self._held = None


def change_image(home: Home, image: str) -> None:
    """Keep another image, which the instance's place has by now; nothing to do where there is no instance.

    Raises:
        InvalidInput: the record cannot be read, or would be wrong.
    """
    with suppress(FileNotFoundError), opened(home.path) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX)  # as for any change of the record
        home.save(ClaudeInstance.of(**{**vars(home.load()), "image": image}))


def _can_have(kept: ClaudeInstance, before: ClaudeInstance) -> bool:
    """Whether a record may have become another for an instance that is used; of a swarm's, the image may have."""
    moves = {"image"} if kept.kind == before.kind == "swarm" else set()
    return can_change(set(kept.differences(before)) - moves)
