"""Labels: how what is ours is known, and found again."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LABEL", "NONCE", "OWN_LABELS", "label_filter"]

#: The prefix of every label of ours.
LABEL = "cc-bridge"

#: Tells a container that was made from one that another has made under the same name.
NONCE = f"{LABEL}.nonce"

#: All labels of ours on a container; one that does not apply is empty.
OWN_LABELS = tuple(
    f"{LABEL}.{name}"
    for name in ["install", "instance", "project", "project-type", "type", "version", "created", "owner", "variables"]
)


def label_filter(labels: Mapping[str, str]) -> list[str]:
    """The engine's filter for what has all these labels; an empty value stands for any."""
    return [f"{key}={value}" if value else key for key, value in labels.items()]
