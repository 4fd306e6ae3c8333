"""Prompts that are more than text: content blocks, each checked when it is made."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ..errors import InvalidInput

__all__ = ["MAX_FILE", "Block", "Document", "Image", "Prompt", "Text", "attachment"]

#: Most bytes of an image or a document. Claude Code shrinks large images; the Messages API takes requests of 32 MB.
MAX_FILE = 16 * 1024 * 1024

#: How the images that the model reads begin.
_IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
_PDF, _PLAIN = "application/pdf", "text/plain"
_WEBP = b"WEBP"  # after four bytes of length
_KINDS = "PNG, JPEG, GIF and WebP"


@dataclass(frozen=True, slots=True)
class Text:
    """Text of a prompt."""

    text: str

    def as_message(self) -> dict[str, Any]:
        """As the Messages API has it."""
        return {"type": "text", "text": self.text}


@dataclass(frozen=True, slots=True)
class Image:
    """An image for the model to look at: PNG, JPEG, GIF or WebP, of at most 16 MiB.

    Attributes:
        data: the file's bytes.
        media_type: such as ``image/png``; what the bytes are decides, and empty is that.

    Raises:
        InvalidInput: it is none of these, of another type than was said, or too large.
    """

    data: bytes = field(repr=False)
    media_type: str = ""

    def __post_init__(self) -> None:
        found = _image_type(self.data)
        if found is None:
            raise InvalidInput(f"this is no image that the model reads; it reads {_KINDS}")
        if self.media_type not in ("", found):
            raise InvalidInput(f"the image is {found}, and not {self.media_type}")
        _check_size(self.data, "the image")
        object.__setattr__(self, "media_type", found)

    @classmethod
    def of(cls, source: str | os.PathLike[str] | bytes) -> Self:
        """The image in a file, or of these bytes.

        Raises:
            InvalidInput: it cannot be read, or is none that the model reads.
        """
        if isinstance(source, bytes | bytearray):
            return cls(bytes(source))
        data = _read(Path(source))
        if _image_type(data) is None:
            raise InvalidInput(f"{source} is no image that the model reads; it reads {_KINDS}")
        return cls(data)

    @classmethod
    def of_base64(cls, text: str) -> Self:
        """The image that was encoded so, as web pages and APIs have it.

        Raises:
            InvalidInput: it is no base64, or no image that the model reads.
        """
        try:
            return cls(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"the image is no base64: {error}") from None

    def as_message(self) -> dict[str, Any]:
        """As the Messages API has it."""
        return {"type": "image", "source": _encoded(self.data, self.media_type)}


@dataclass(frozen=True, slots=True)
class Document:
    """A document for the model to read: a PDF, or text in UTF-8, of at most 16 MiB.

    Attributes:
        data: the file's bytes.
        title: what the model is told that it is called.
        media_type: ``application/pdf`` or ``text/plain``; what the bytes are decides, and empty is that.

    Raises:
        InvalidInput: it is neither, of another type than was said, or too large.
    """

    data: bytes = field(repr=False)
    title: str = ""
    media_type: str = ""

    def __post_init__(self) -> None:
        name = self.title or "the document"
        found = _document_type(self.data)
        if found is None:
            hint = "Put other files into the workspace, and name them in the prompt."
            raise InvalidInput(f"{name} is neither a PDF nor text in UTF-8", hint=hint)
        if self.media_type not in ("", found):
            raise InvalidInput(f"{name} is {found}, and not {self.media_type}")
        if not self.data.strip():
            raise InvalidInput(f"{name} is empty")
        _check_size(self.data, name)
        object.__setattr__(self, "media_type", found)

    @classmethod
    def of(cls, path: str | os.PathLike[str], title: str | None = None) -> Self:
        """The document in a file; its title is the file's name unless there is another.

        Raises:
            InvalidInput: it cannot be read, or is none that the model reads.
        """
        return cls(_read(Path(path)), Path(path).name if title is None else title)

    def as_message(self) -> dict[str, Any]:
        """As the Messages API has it."""
        if self.media_type == _PDF:
            source = _encoded(self.data, _PDF)
        else:
            source = {"type": "text", "media_type": _PLAIN, "data": self.data.decode("utf-8")}
        return {"type": "document", "source": source, **({"title": self.title} if self.title else {})}


Block = Text | Image | Document

#: What may be sent: text, or content blocks in their order.
Prompt = str | Sequence[Block]


def attachment(path: str | os.PathLike[str]) -> Image | Document:
    """The file as the block that it is.

    Raises:
        InvalidInput: it cannot be read, or the model reads no such file.
    """
    data = _read(Path(path))
    return Image(data) if _image_type(data) else Document(data, Path(path).name)


def _read(path: Path) -> bytes:
    """The file, unless it is larger than may be sent."""
    data = None
    try:
        if path.is_file() or not path.exists():  # a pipe would be waited for
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # or has become a pipe meanwhile
                    data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError:  # no path has a NUL
        raise InvalidInput(f"{str(path)!r} is no path") from None
    if data is None:
        raise InvalidInput(f"{path} is no file")
    _check_size(data, str(path))
    return data


def _check_size(data: bytes, name: str) -> None:
    if len(data) > MAX_FILE:
        raise InvalidInput(
            f"{name} has more than {MAX_FILE} bytes", hint="Put it into the workspace, and name it there."
        )


def _image_type(data: bytes) -> str | None:
    found = next((kind for kind, begins in _IMAGES.items() if data.startswith(begins)), None)
    return None if found == "image/webp" and data[8:12] != _WEBP else found


def _document_type(data: bytes) -> str | None:
    if data.startswith(b"%PDF-"):
        return _PDF
    try:
        return None if "\0" in data.decode("utf-8") else _PLAIN
    except UnicodeDecodeError:
        return None


def _encoded(data: bytes, media_type: str) -> dict[str, str]:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode("ascii")}
