"""Labels, by which we find our containers, images, networks and volumes again."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LABEL", "NONCE", "OWN_LABELS", "label_filter"]

#: The prefix of every label of ours.
LABEL = "cc-bridge"

#: Distinguishes the container that we created from another's of the same name.
NONCE = f"{LABEL}.nonce"

#: All our labels on a container; those that do not apply are empty.
OWN_LABELS = tuple(
    f"{LABEL}.{name}"
    for name in ["install", "instance", "project", "project-type", "type", "version", "created", "owner", "variables"]
)


def label_filter(labels: Mapping[str, str]) -> list[str]:
    """The engine's filter for all these labels; an empty value matches any."""
    return [f"{key}={value}" if value else key for key, value in labels.items()]
