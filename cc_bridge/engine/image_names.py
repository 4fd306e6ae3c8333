"""Names of images that mean something here."""

from __future__ import annotations

__all__ = ["AUTO_IMAGE", "DEFAULT_IMAGE"]

#: Stands for the default image, whose real tag has a hash of its sources.
DEFAULT_IMAGE = "cc-bridge"

#: Stands for the image of the workspace's Dockerfile, or for the default image if there is none.
AUTO_IMAGE = "auto"
