"""What a container or a model says does nothing to the terminal that it is shown on. covers: T4"""

from __future__ import annotations

import io
import os
import pty
import sys
import unicodedata
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.cli.display import Display, print_json, short
from cc_bridge.cli.harmless import HarmlessOutput, harmless, plain
from cc_bridge.cli.tables import print_table
from cc_bridge.events import PermissionRequest, TextDelta, ToolUse

#: Sets the title, clears the screen, colours, rings, moves the cursor back, asks the terminal to answer.
ATTACK = "\x1b]0;pwned\x07\x1b[2J\x1b[31mred\x9b31m\x08\x08\r\x05\x7f\x00"


def controls(text: str) -> list[str]:
    return [character for character in text if unicodedata.category(character) == "Cc" and character not in "\n\t"]


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    assert not controls(harmless(text))


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Mn", "Lo", "So", "Cn"])))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == harmless(text) == text


def test_lines_and_tabs_and_letters_of_all_the_world_stay() -> None:
    text = "a\tb\n日本語 עברית العربية 👩\u200d🚀 é … → ·\n"
    assert harmless(text) == text


def test_what_somebody_decides_by_has_nothing_unseen() -> None:
    """Every character that Unicode calls a format, or a separator of lines or paragraphs, is shown by its number."""
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in ("Cf", "Zl", "Zp", "Cs"):
            assert plain(chr(code)).encode("ascii").decode("unicode-escape") == chr(code)
            assert plain(chr(code)) != chr(code)
    assert plain("rm \u202egpj.x") == "rm \\u202egpj.x"


def test_a_line_s_end_of_another_system_is_a_line_s_end() -> None:
    assert harmless("a\r\nb\rc") == "a\nb␍c"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show_answer() -> None:
    with Display() as display:
        display.event(TextDelta(ATTACK))


def show_tool() -> None:
    with Display() as display:
        display.event(ToolUse("t", f"Bash{ATTACK}", {"command": ATTACK}))


def show_request() -> None:
    with Display() as display:
        display.event(PermissionRequest("r", f"Bash{ATTACK}", {"command": "\u202e" + ATTACK}))


def show_json() -> None:
    print_json({"name": ATTACK})


def show_table() -> None:
    print_table(["NAME"], [[ATTACK]])


def test_what_is_shown_is_what_was_said_to_the_letter(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal's library may have words of its own, such as :x: for a picture."""
    with Display() as display:
        display.note("rm -rf /srv/data:x:/cache :zero: [bold]")
    assert "rm -rf /srv/data:x:/cache :zero: [bold]" in capsys.readouterr().err
    print_table(["NAME"], [["data:x:/cache"]])
    assert "data:x:/cache" in capsys.readouterr().out


def show_note() -> None:
    with Display() as display:
        display.note(f"left out: {ATTACK}")


@pytest.mark.parametrize("show", [show_answer, show_tool, show_request, show_json, show_table, show_note])
def test_nothing_that_is_shown_moves_the_terminal(show: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with redirect_stdout(terminal), redirect_stderr(terminal):
        show()
    said = terminal.getvalue()
    assert "pwned" in said, "it is shown, and does nothing"
    for sequence in ("\x1b]", "\x1b[2J", "\x1b[31m", "\x9b", "\x07", "\x08", "\x05"):
        assert sequence not in said


def test_a_file_gets_the_answer_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show_answer()
    assert capsys.readouterr().out == ATTACK + "\n"


def test_a_permission_says_how_much_of_it_is_not_shown() -> None:
    assert short({"a": "x" * 200}, 50).endswith("(159 characters more)")


def test_a_command_s_output_is_harmless_on_a_terminal_and_exact_elsewhere() -> None:
    text = ("é" + ATTACK).encode()
    ours, theirs = pty.openpty()
    read, write = os.pipe()
    for fd in (theirs, write):
        output = HarmlessOutput()
        for byte in text:
            output.write(fd, bytes([byte]))
    received, wanted = b"", len(harmless(text.decode()).encode())
    while len(received) < wanted:  # a terminal passes on what was written piece by piece
        received += os.read(ours, 4096)
    shown = received.decode()
    assert shown.startswith("é␛]0;pwned␇")
    assert not controls(shown)
    assert os.read(read, 4096) == text
    for fd in (ours, theirs, read, write):
        os.close(fd)
