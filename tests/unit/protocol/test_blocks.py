"""Content blocks: what a file is, is seen in it, and what the model cannot read is refused. covers: B9, C16"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import Document, Image, InvalidInput, Text, attachment
from cc_bridge.protocol import blocks
from cc_bridge.protocol.blocks import MAX_FILE

PNG = b"\x89PNG\r\n\x1a\n rest"
IMAGES = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0 rest",
    "image/gif": b"GIF89a rest",
    "image/webp": b"RIFF\0\0\0\0WEBP rest",
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_is_what_its_bytes_are(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "image.txt"
    file.write_bytes(IMAGES[kind])
    for image in (Image(IMAGES[kind]), Image.of(IMAGES[kind]), Image.of(file), Image.of(str(file)), attachment(file)):
        source = {"type": "base64", "media_type": kind, "data": base64.b64encode(IMAGES[kind]).decode()}
        assert image.as_message() == {"type": "image", "source": source}
    assert Image.of_base64(base64.b64encode(IMAGES[kind]).decode()) == Image(IMAGES[kind], kind)


@pytest.mark.parametrize("data", [b"", b"BM rest", b"<svg/>", b"RIFF\0\0\0\0WAVE", b"\x89PN", b"\xff\xd8"])
def test_what_the_model_cannot_read_is_no_image(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(data)
    with pytest.raises(InvalidInput, match="PNG, JPEG, GIF and WebP"):
        Image(data)
    with pytest.raises(InvalidInput, match=r"image.png is no image"):
        Image.of(file)


def test_a_type_that_the_bytes_are_not_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is image/png, and not image/jpeg"):
        Image(PNG, "image/jpeg")
    with pytest.raises(InvalidInput, match=r"a\.txt is text/plain, and not application/pdf"):
        Document(b"text", "a.txt", "application/pdf")


@pytest.mark.parametrize("text", ["!!!", "YWJj\n", "YWJ", "é"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no base64"):
        Image.of_base64(text)
    with pytest.raises(InvalidInput, match="no image that the model reads"):
        Image.of_base64("YWJj")


def test_a_pdf_and_a_text_are_documents(tmp_path: Path) -> None:
    pdf, text = tmp_path / "a.pdf", tmp_path / "b.csv"
    pdf.write_bytes(b"%PDF-1.7 \xff")
    text.write_text("één,twee")
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(b"%PDF-1.7 \xff").decode()}
    assert Document.of(pdf).as_message() == {"type": "document", "source": source, "title": "a.pdf"}
    plain = {"type": "text", "media_type": "text/plain", "data": "één,twee"}
    assert attachment(text).as_message() == {"type": "document", "source": plain, "title": "b.csv"}
    assert Document.of(text, title="").as_message() == {"type": "document", "source": plain}


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"\xff\xfe", "neither a PDF nor text"), (b"a\0b", "neither a PDF nor text"), (b" \n", "is empty")],
)
def test_what_is_no_document(data: bytes, what: str, tmp_path: Path) -> None:
    file = tmp_path / "thing.bin"
    file.write_bytes(data)
    with pytest.raises(InvalidInput, match=f"thing.bin {what}|thing.bin is {what}"):
        Document.of(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, what in (
        ("none.png", "No such file"),
        ("", "is no file"),
        ("pipe", "is no file"),
        ("a\0b", "is no path"),
    ):
        for read in (Image.of, Document.of, attachment):
            with pytest.raises(InvalidInput, match=what):
                read(tmp_path / name)


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(Path, "is_file", lambda path: True)  # as it was at that moment
    with pytest.raises(InvalidInput, match="is no file"):
        attachment(tmp_path / "pipe")


def test_a_file_may_have_so_many_bytes_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_FILE == 16 * 2**20
    monkeypatch.setattr(blocks, "MAX_FILE", 20)
    file = tmp_path / "large"
    makers: list[Any] = [Image, Image.of, Document, lambda data: attachment(file)]
    for make in makers:
        data = b"text" if make is Document else PNG
        file.write_bytes(data.ljust(20))
        make(data.ljust(20))
        file.write_bytes(data.ljust(21))
        with pytest.raises(InvalidInput, match="more than 20 bytes"):
            make(data.ljust(21))


def test_what_is_in_a_file_is_not_shown_by_repr() -> None:
    assert "rest" not in repr(Image(PNG))
    assert "secret" not in repr(Document(b"secret"))
    assert Text("hello").as_message() == {"type": "text", "text": "hello"}
