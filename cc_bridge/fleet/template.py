"""What instances of one kind have in common, so that some can be ready before anybody wants them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..record import ClaudeInstance

__all__ = ["ALIAS", "SPARE", "Template", "is_kept_as", "record_of"]

#: Labels of a record: which fleet's, of which template; and the name under which it is opened, once it was taken.
SPARE = "cc-bridge.spare"
ALIAS = "cc-bridge.alias"

#: Seconds after which a spare that nobody has taken sleeps: its fleet has gone.
_SPARE_SLEEPS = 24 * 3600.0

#: What a spare has from its pool.
_THE_POOLS = ("name", "created", "ephemeral", "resume", "fork")


@dataclass(frozen=True)
class Template:
    """What all instances that are made from it have in common.

    Args:
        fields: as :meth:`cc_bridge.ClaudeInstance.of` takes them, without a name. Without a ``workspace``, each
            instance has a new directory of its own, which is removed with it.
        spares: how many are kept ready.

    Raises:
        InvalidInput: names the field and what is wrong with it.
    """

    fields: Mapping[str, Any]
    spares: int = 1

    def __post_init__(self) -> None:
        if own := [name for name in _THE_POOLS if name in self.fields]:
            raise InvalidInput(f"a template cannot have {', '.join(own)}: its instances are new, and stay")
        if self.spares < 0:
            raise InvalidInput("a template cannot have fewer than 0 spares")
        self.record("template", Path("/"))
        if self.fields.get("tmux") or self.fields.get("kind") == "tmux" or self.fields.get("container"):
            raise InvalidInput("a template is for processes and containers, without a pane: a person may look at one")

    @property
    def makes_workspace(self) -> bool:
        """Each instance has a directory of its own."""
        return self.fields.get("workspace") is None and self.fields.get("kind") != "swarm"

    def record(self, name: str, workspace: Path, **more: Any) -> ClaudeInstance:
        """The record of an instance of it.

        Args:
            workspace: for where the template has none.
            more: what this one has beside, or instead.
        """
        fields = {**self.fields, "name": name}
        if self.makes_workspace:
            fields["workspace"] = workspace
        return ClaudeInstance.of(**{**fields, **more})

    def spare(self, name: str, workspace: Path, mark: str) -> ClaudeInstance:
        """The record of a spare, which does not sleep for a day."""
        labels = {**self.fields.get("labels", {}), SPARE: mark}
        return self.record(name, workspace, labels=labels, sleep_after=_SPARE_SLEEPS)

    def taken(self, spare: ClaudeInstance, alias: str, changes: Mapping[str, Any]) -> ClaudeInstance:
        """The record of a spare that was taken.

        Args:
            changes: ``labels`` (beside the template's), ``project``, ``rules``.
        """
        labels = {**spare.labels, **changes.get("labels", {}), SPARE: spare.labels[SPARE], ALIAS: alias}
        times = {"sleep_after": self.fields.get("sleep_after")}
        return ClaudeInstance.of(**{**vars(spare), **times, **changes, "labels": labels})


def record_of(template: Template, name: str, workspaces: Path, mark: str) -> ClaudeInstance:
    """The record of a spare, and its directory, which is made if need be.

    Raises:
        InvalidInput: the directory cannot be made.
    """
    workspace = workspaces / name
    if template.makes_workspace:
        try:
            workspaces.mkdir(mode=0o700, parents=True, exist_ok=True)
            workspace.mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0 and template.fields.get("kind") == "docker":
                os.chown(workspace, 1000, 1000)  # in a container of root's it works as this user
        except OSError as error:
            raise InvalidInput(f"the directory {workspace} cannot be made: {error.strerror}") from error
    return template.spare(name, workspace, mark)


def is_kept_as(kept: ClaudeInstance, template: Template, workspace: Path) -> bool:
    """A spare that is kept is of the template as it is now."""
    return not kept.differences(template.spare(kept.name, workspace, kept.labels[SPARE]))
