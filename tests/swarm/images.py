"""The images of this machine's engine, for another engine.

One that keeps them as this machine's does reads their layers where they are, which takes no time: layers are never
written to, a container has its own above them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import docker

__all__ = ["copy", "lend"]

_LIMIT = 600.0  # seconds; an image is a gigabyte


def lend(images: Sequence[str], data: Path) -> list[str]:
    """Put them where an engine will start; returns those for which it did not work, for `copy`."""
    with contextlib.closing(docker.from_env(timeout=_LIMIT)) as client:
        info = client.info()
        root = Path(info["DockerRootDir"])
        found = [_Lent(image, root, client.api.inspect_image(image)) for image in images]
    lent = [image for image in found if info["Driver"] == "overlay2" and image.there()]
    _write(lent, data)
    return [image.image for image in found if image not in lent]


def copy(images: list[str], there: docker.DockerClient) -> None:
    """The slow way, which always works."""
    with contextlib.closing(docker.from_env(timeout=_LIMIT)) as client:
        for image in images:
            there.api.load_image(client.api.get_image(image))


class _Lent:
    """An image, as the files of this machine's engine have it."""

    def __init__(self, image: str, root: Path, found: dict[str, Any]) -> None:
        self.image, self.root, self.id = image, root, found["Id"]
        self.chains: list[str] = []
        for layer in found["RootFS"]["Layers"]:
            parent = self.chains[-1] if self.chains else ""
            self.chains.append(
                f"sha256:{hashlib.sha256(f'{parent} {layer}'.encode()).hexdigest()}" if parent else layer
            )

    def there(self) -> bool:
        """Not where the engine keeps images otherwise, or on another machine."""
        return all(path.is_dir() for path in self.layers())

    def layers(self) -> Iterator[Path]:
        """What is known of each layer."""
        return (self.root / "image/overlay2/layerdb/sha256" / chain.removeprefix("sha256:") for chain in self.chains)


def _write(images: list[_Lent], data: Path) -> None:
    known = data / "image/overlay2"
    for path in ("layerdb/sha256", "imagedb/content/sha256", "imagedb/metadata/sha256"):
        (known / path).mkdir(parents=True)
    (data / "overlay2/l").mkdir(parents=True)
    for image in images:
        shutil.copy(
            image.root / "image/overlay2/imagedb/content/sha256" / image.id.removeprefix("sha256:"),
            known / "imagedb/content/sha256",
        )
        for layer in image.layers():
            if (known / "layerdb/sha256" / layer.name).exists():
                continue
            shutil.copytree(layer, known / "layerdb/sha256" / layer.name)
            name = (layer / "cache-id").read_text()
            (data / "overlay2" / name).symlink_to(image.root / "overlay2" / name)
            short = (image.root / "overlay2" / name / "link").read_text()
            (data / "overlay2/l" / short).symlink_to(f"../{name}/diff")
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        repositories.setdefault(image.image.rpartition(":")[0], {})[image.image] = image.id
    (known / "repositories.json").write_text(json.dumps({"Repositories": repositories}))
