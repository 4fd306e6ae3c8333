"""Images: found, pulled or built. Built are the default image and that of a workspace's Dockerfile."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, Any

import anyio

from ..beneath import link_target, open_beneath, opened, read_file
from ..dockerfiles import Dockerfile
from ..errors import ContainerStartError, EngineError, ImageBuildError, ImageNotFound, InvalidInput, NoSpaceLeft
from .archives import add_beneath, tar_of_bytes
from .client import Engine
from .container_spec import ContainerSpec
from .containers import Containers
from .image_names import AUTO_IMAGE, DEFAULT_IMAGE
from .labels import label_filter
from .progress import Progress, ProgressReader, Step

__all__ = ["BuildContext", "ImageInfo", "Images", "dockerfile", "template", "templates"]

#: Repository name of images built from a workspace's Dockerfile.
_BUILT = "cc-bridge-auto"

#: Seconds for a pull or a build.
_LONG = 3600.0

#: Most wildcards in a line of .dockerignore: matching time grows exponentially with them.
_MOST_WILDCARDS = 4

#: Seconds for an image to say what is in it.
_LOOK_LIMIT = 30.0

#: Matches a Dockerfile that copies from its context; otherwise no context is sent or hashed.
_TAKES = re.compile(r"^\s*(COPY|ADD|ONBUILD)\s+(?!.*--from=)", re.IGNORECASE | re.MULTILINE)


def dockerfile() -> Path:
    """The Dockerfile of the default image: in the installed package, or in the checkout."""
    return _docker_files() / "Dockerfile"


def templates() -> list[str]:
    """Names of the Dockerfile templates."""
    return sorted(
        path.name.removesuffix(".Dockerfile") for path in (_docker_files() / "templates").glob("*.Dockerfile")
    )


def template(name: str) -> str:
    """The text of a Dockerfile template.

    Raises:
        InvalidInput: there is none of this name.
    """
    if name not in templates():
        raise InvalidInput(f"there is no template {name!r}", hint=f"There are: {', '.join(templates())}.")
    return (_docker_files() / "templates" / f"{name}.Dockerfile").read_text()


def _docker_files() -> Path:
    package = Path(__file__).resolve().parent.parent
    installed = package / "images"
    return installed if (installed / "Dockerfile").exists() else package.parent / "docker"


@dataclass(frozen=True)
class ImageInfo:
    """An image of ours. ``size``: bytes. ``created``: seconds since 1970."""

    id: str
    names: tuple[str, ...]
    size: int
    created: int
    labels: Mapping[str, str]


@dataclass(frozen=True)
class BuildContext:
    """What an image is built from: a Dockerfile and its context.

    Attributes:
        root: the directory of the context; None: only ``files``.
        paths: the context's files, relative to ``root``, without those in ``.dockerignore``.
        files: more files, by name.
    """

    text: str
    root: Path | None = None
    paths: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, root: Path) -> BuildContext:
        """The context of a Dockerfile with this text in this directory.

        Raises:
            InvalidInput: the context cannot be read.
        """
        from docker.utils.build import exclude_paths

        try:
            if not _TAKES.search(text):
                return cls(text)
            kept = _ignored(root)
            return cls(text, root, tuple(sorted(exclude_paths(str(root), kept))))
        except UnicodeDecodeError:
            raise InvalidInput(f"{root / '.dockerignore'} is not UTF-8 text") from None
        except OSError as error:
            raise InvalidInput(f"{error.filename or root} cannot be read: {error.strerror}") from error

    def digest(self, arguments: Mapping[str, str]) -> str:
        """A hash for the image's tag: of names, modes and contents, not of times or owners."""
        digest = hashlib.sha256(repr((self.text, sorted(arguments.items()))).encode())
        for name, data in sorted(self.files.items()):
            digest.update(repr((name, hashlib.sha256(data).hexdigest())).encode())
        if self.root is not None:
            with opened(self.root.resolve()) as root:
                for path in self.paths:
                    digest.update(_fingerprint(root, path).encode())
        return digest.hexdigest()[:12]

    def archive(self) -> IO[bytes]:
        """A tar file of the context, which the caller closes. The Dockerfile's name cannot clash with a file's.

        Raises:
            InvalidInput: a file of the context cannot be read.
        """
        if self.root is None:
            return tar_of_bytes({"Dockerfile": self.text.encode(), **self.files})
        made, path = tempfile.TemporaryFile(), ""
        try:
            with tarfile.open(fileobj=made, mode="w") as tar, opened(self.root.resolve()) as root:
                for path in self.paths:
                    add_beneath(tar, root, PurePath(path).parts, path, 0, 0)
                text = self.text.encode()
                header = tarfile.TarInfo(self.file)
                header.size, header.mode = len(text), 0o644
                tar.addfile(header, io.BytesIO(text))
        except OSError as error:
            made.close()
            what = f"{self.root / path} cannot be read: {error.strerror or error}"
            raise InvalidInput(what, hint="A `.dockerignore` leaves it out.") from error
        made.seek(0)
        return made

    @property
    def file(self) -> str:
        """The Dockerfile's name in the archive."""
        return (
            "Dockerfile" if self.root is None else f".dockerfile.{hashlib.sha256(self.text.encode()).hexdigest()[:16]}"
        )


def _ignored(root: Path) -> list[str]:
    """The patterns of a context's ``.dockerignore``.

    Raises:
        InvalidInput: it is not a file, is too large, or has a pattern with too many wildcards to be matched in
            reasonable time.
        OSError: it cannot be read.
    """
    try:
        with opened(root.resolve()) as directory:
            text = read_file(directory, [".dockerignore"]).decode()
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise InvalidInput(f"{root / '.dockerignore'} cannot be used: {error}") from None
    kept = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for pattern in kept:
        if len(re.findall(r"\*+", pattern)) > _MOST_WILDCARDS:
            raise InvalidInput(f"{root / '.dockerignore'}: more than {_MOST_WILDCARDS} wildcards in {pattern[:100]!r}")
    return kept


def _fingerprint(root: int, path: str) -> str:
    """Name, type, mode and content hash of a path; for a link, its target."""
    parts = PurePath(path).parts
    try:
        fd = open_beneath(root, parts)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return repr((path, "link", link_target(root, parts)))
        return repr((path, "nothing that goes into an archive"))
    try:
        found, content = os.fstat(fd), ""
        if stat.S_ISREG(found.st_mode):
            with os.fdopen(os.dup(fd), "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
    finally:
        os.close(fd)
    return repr((path, stat.S_IFMT(found.st_mode), found.st_mode & 0o777, content))


class Images:
    """The engine's images.

    Raises, from every method:
        EngineError: of the kind that fits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def exists(self, name: str) -> bool:
        """Whether the engine has it."""
        client = await self._engine.client()
        try:
            await self._engine.call(client.images.get, name, repeat=True)
        except ImageNotFound:
            return False
        return True

    async def ensure(
        self,
        name: str,
        agent: Path,
        progress: Progress | None = None,
        *,
        workspace: Path | None = None,
        dockerfile: Dockerfile | None = None,
    ) -> str:
        """Pull or build the image if it is missing; return its real name.

        Args:
            name: ``AUTO_IMAGE`` means the default image here; the caller resolves a workspace's Dockerfile.
            agent: the agent's archive, for the default image.
            workspace: the context of a build; by default the Dockerfile's directory.
            dockerfile: build this one and ignore ``name``.

        Raises:
            ImageNotFound: it is not local and cannot be pulled; says why.
            ImageBuildError: a step of a Dockerfile failed.
        """
        if dockerfile is not None:
            return await self.build_workspace(dockerfile, workspace or dockerfile.path.parent, progress)
        if name in (DEFAULT_IMAGE, AUTO_IMAGE):
            return await self.build_default(agent, progress)
        if not await self.exists(name):
            await self.pull(name, progress)
        return name

    async def pull(self, name: str, progress: Progress | None = None) -> None:
        """Pull an image.

        Raises:
            ImageNotFound: it cannot be pulled; says why.
        """
        client = await self._engine.client()
        repository, tag = _split_tag(name)
        if progress:
            progress(Step(f"pulling {name}"))
        try:
            await self._engine.call(
                lambda: _follow(client.api.pull(repository, tag=tag, stream=True, decode=True), progress),
                limit=_LONG,
                shown=("pull", name),
            )
        except NoSpaceLeft:
            raise
        except ImageNotFound as error:
            raise ImageNotFound(f"the image {name} is not here and there is none to pull: {error.what}") from error
        except EngineError as error:
            raise ImageNotFound(f"the image {name} is not here and cannot be pulled: {error.what}") from error

    async def build_workspace(self, file: Dockerfile, workspace: Path, progress: Progress | None = None) -> str:
        """Build a workspace's Dockerfile unless the same content is built; return the image's name."""
        import anyio.to_thread  # reading a large context takes time

        context = await anyio.to_thread.run_sync(BuildContext.of, file.text, workspace)
        arguments = _arguments() if "ARG BASE_IMAGE" in context.text else {}
        name = f"{_BUILT}:{await anyio.to_thread.run_sync(context.digest, arguments)}"
        if not await self.exists(name):
            labels = {"cc-bridge.type": "image", "cc-bridge.dockerfile": str(file.path)}
            await self.build(context, name, arguments, progress, labels=labels)
        return name

    async def with_claude(self, name: str, agent: Path, user: str, progress: Progress | None = None) -> str:
        """The same image with the default image's Claude Code in it, unless it has one; return the name of what has.

        Args:
            name: of an image that is here.
            agent: the agent's archive, for the default image.
            user: who is to run it.

        Raises:
            ImageBuildError: it cannot be put there.
        """
        default = self.default_name(agent)
        result = f"{name}-{default.rpartition(':')[2]}"
        if await self.exists(result):
            return result
        if await self._has_claude(name, user):
            return name
        await self.build_default(agent, progress)
        claude = "/usr/local/bin/claude"
        text = f"FROM {default} AS claude\nFROM {name}\nCOPY --from=claude {claude} {claude}\n"
        await self.build(BuildContext(text), result, {}, progress)
        return result

    async def _has_claude(self, image: str, user: str) -> bool:
        """Whether a command finds it there. The image is asked without network, and may write nothing."""
        containers = Containers(self._engine)
        name = f"cc-bridge-look-{secrets.token_hex(8)}"
        command = ["sh", "-c", 'test -x "$(command -v claude)"']
        await containers.create(ContainerSpec(name=name, image=image, command=command, user=user, network="none"))
        try:
            await containers.start(name)
            ended = await containers.wait(name, "not-running", _LOOK_LIMIT)
            return ended and (await containers.inspect(name)).exit_code == 0
        except ContainerStartError:
            return False  # there is not even a shell
        finally:
            with anyio.CancelScope(shield=True):
                await containers.remove(name)

    async def build_default(self, agent: Path, progress: Progress | None = None) -> str:
        """Build the default image if it is missing; return its name.

        ``CC_BRIDGE_BASE_IMAGE`` names another base, ``CC_BRIDGE_BUILD_NETWORK`` the network to build in.
        """
        name = self.default_name(agent)
        if not await self.exists(name):
            context = BuildContext(dockerfile().read_text(), files={"agent.pyz": agent.read_bytes()})
            await self.build(context, name, _arguments(), progress)
        return name

    def default_name(self, agent: Path) -> str:
        """The default image's name, with a hash of its sources."""
        made_from = dockerfile().read_bytes() + agent.name.encode() + repr(sorted(_arguments().items())).encode()
        return f"{DEFAULT_IMAGE}:{hashlib.sha256(made_from).hexdigest()[:12]}"

    async def build(
        self,
        context: BuildContext,
        name: str,
        arguments: Mapping[str, str],
        progress: Progress | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Build an image; cancellation stops the build.

        Raises:
            ImageBuildError: a step failed; its last lines are quoted.
        """
        client = await self._engine.client()
        network = os.environ.get("CC_BRIDGE_BUILD_NETWORK") or None
        if progress:
            progress(Step(f"building {name} (the first time only)"))

        def act() -> None:
            with context.archive() as archive:
                steps = client.api.build(
                    fileobj=archive,
                    custom_context=True,
                    decode=True,
                    dockerfile=context.file,
                    tag=name,
                    rm=True,
                    forcerm=True,
                    buildargs=dict(arguments),
                    labels={"cc-bridge.type": "image", **(labels or {})},
                    network_mode=network,
                )
                _follow(steps, progress)

        shown = ["build", "--tag", name, *(["--network", network] if network else [])]
        shown += [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        await self._engine.call(act, limit=_LONG, shown=[*shown, str(context.root or ".")])

    async def labelled(self, labels: Mapping[str, str]) -> list[ImageInfo]:
        """Those with all these labels, newest first."""
        client = await self._engine.client()
        found = await self._engine.call(client.api.images, filters={"label": label_filter(labels)}, repeat=True)
        return [
            ImageInfo(
                id=raw["Id"],
                names=tuple(name for name in raw.get("RepoTags") or () if name != "<none>:<none>"),
                size=int(raw.get("Size") or 0),
                created=int(raw.get("Created") or 0),
                labels=dict(raw.get("Labels") or {}),
            )
            for raw in found
        ]

    async def remove_unused(self, name: str) -> bool:
        """Remove it unless a container uses it; return True if it is gone."""
        client = await self._engine.client()
        try:
            await self._engine.call(client.api.remove_image, name, shown=("rmi", name))
        except ImageNotFound:
            pass
        except EngineError as error:
            if "in use" in error.what or "is using" in error.what or "being used" in error.what:
                return False
            raise
        return True


def _follow(messages: Iterable[Mapping[str, Any]], progress: Progress | None) -> None:
    """Read all messages of a pull or a build."""
    reader, last = ProgressReader(), list[str]()
    for message in messages:
        if "error" in message:
            what, context = str(message["error"]).strip(), "\n".join(last[-8:])
            kind = NoSpaceLeft if "no space left on device" in what else ImageBuildError
            raise kind(what + (f"; the last lines:\n{context}" if context else ""))
        for step in reader.read(message):
            if not step.passing:
                last = [*last[-20:], step.text]
            if progress:
                progress(step)


def _split_tag(name: str) -> tuple[str, str | None]:
    """Repository and tag. A digest stays with the repository; a port is not a tag."""
    if "@" in name:
        return name, None
    head, separator, tag = name.rpartition(":")
    return (head, tag) if separator and "/" not in tag else (name, "latest")


def _arguments() -> dict[str, str]:
    base = os.environ.get("CC_BRIDGE_BASE_IMAGE", "")
    return {"BASE_IMAGE": base} if base else {}
