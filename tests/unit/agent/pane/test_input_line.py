"""How a command gets into the input line, whatever stands there. A model of the line plays Claude Code."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from cc_bridge_agent.pane.input_line import Ask, Blocked, Entered, InputLine, Looked, Press, Withdrawn


class Line:
    """Claude Code's: ``deaf``: so many keys are lost first; ``busy``: when a key could be heard, is it too late?"""

    def __init__(self, line: InputLine, text: str = "", deaf: int = 0, busy: Sequence[bool] = ()) -> None:
        self.line, self.text, self.deaf, self.busy = line, text, deaf, list(busy)
        self.keys: list[str] = []
        self.asked: Ask | None = None
        self.late = self.lost = 0
        self.stash = ""
        self.sent: list[str] = []
        self.now = 0.0

    def run(self) -> object:
        """Until the job's outcome, and until all keys are heard."""
        for _ in range(200):
            if self.line.effects:
                effect = self.line.effects.pop(0)
                if isinstance(effect, Ask):
                    self.late += self.asked is not None
                    if effect.lost:
                        self.late, self.lost = 0, self.lost + self.late
                    self.asked = effect
                    if effect.press:
                        self.keys.append("editor")
                elif isinstance(effect, Press):
                    self.keys.append(effect.key)
                else:
                    self.late, self.asked = self.late + (self.asked is not None), None
                    while self.keys:
                        self.hear(self.keys.pop(0))
                    return effect
            elif self.keys and not (self.busy and self.busy.pop()):
                self.hear(self.keys.pop(0))
            else:
                assert self.line.wake_at is not None
                self.now = self.line.wake_at
                self.line.handle_timer(self.now)
        raise AssertionError("no end")

    def hear(self, key: str) -> None:
        if self.deaf:
            self.deaf -= 1
        elif key == "stash" and self.text:
            self.stash, self.text = self.text, ""
        elif key == "stash":
            self.stash, self.text = "", self.stash
        elif key == "enter" and self.text:
            self.sent.append(self.text)
            self.stash, self.text = "", self.stash
        elif self.late:
            self.late -= 1
            self.line.late_key(self.now)
        elif self.asked is not None:
            self.edit(self.asked)
        else:
            self.lost -= 1
            assert self.lost >= 0, "a person's editor was opened"

    def edit(self, asked: Ask) -> None:
        self.asked = None
        draft, put = self.text, asked.text is not None and (asked.replace or not self.text)
        if put:
            self.text = asked.text or ""
        self.line.editor_called(put, draft, "/tmp/prompt", self.now)
        self.line.file_deleted("/tmp/prompt", self.now)


@given(
    st.text("ab/\\\n", min_size=1), st.text("xy", max_size=3), st.integers(0, 1), st.lists(st.booleans(), max_size=3)
)
@example("a", "x", 0, [False, True])
@example("a", "x", 0, [False, True, True])
def test_a_command_is_entered_and_a_draft_comes_back(text: str, draft: str, deaf: int, busy: list[bool]) -> None:
    model = Line(line := InputLine(), draft, deaf, busy)
    line.enter(text, [], 0.0)
    assert model.run() == Entered()
    assert [sent.strip() for sent in model.sent] == [text.strip()]
    assert not model.sent[0].endswith("\\")
    assert model.text == draft
    assert not line.busy
    assert line.wake_at is None


def test_what_an_earlier_attempt_has_left_is_no_draft() -> None:
    model = Line(line := InputLine(), "interrupted ")
    line.enter("next", ["interrupted"], 0.0)
    assert model.run() == Entered()
    assert (model.sent, model.text) == (["next "], "")


def test_a_command_of_claude_codes_is_none_where_no_name_follows() -> None:
    for text, entered in (("/x", "/x "), ("/ x", " / x "), ("//", " // ")):
        model = Line(line := InputLine())
        line.enter(text, [], 0.0)
        model.run()
        assert model.sent == [entered]


def test_nothing_is_entered_where_there_is_no_line() -> None:
    model = Line(line := InputLine(), deaf=99)
    line.enter("text", [], 0.0)
    assert model.run() == Blocked()
    assert (model.sent, line.busy) == ([], False)
    line.look([], model.now)
    assert model.run() == Blocked()


@given(st.sampled_from(["", "ours", "theirs"]))
def test_looking_clears_only_what_is_ours(text: str) -> None:
    model = Line(line := InputLine(), text)
    line.look(["ours"], 0.0)
    assert model.run() == Looked(text)
    assert model.text == ("" if text == "ours" else text)
    assert model.sent == []


@given(st.text("xy", max_size=3), st.integers(0, 3))
def test_what_was_withdrawn_is_not_entered(draft: str, deaf: int) -> None:
    model = Line(line := InputLine(), draft, deaf)
    line.enter("text", [], 0.0)
    assert line.withdraw()
    outcome = model.run()
    assert outcome in (Withdrawn(), Blocked())
    assert model.sent == []
    assert model.text == draft
    assert not line.withdraw()


def test_a_late_editor_is_not_taken_for_the_next() -> None:
    line = InputLine()
    line.editor_called(True, "", "/tmp/old", 0.0)
    line.file_deleted("/tmp/old", 0.0)
    assert line.effects == []
    line.enter("text", [], 0.0)
    line.effects.clear()
    line.editor_called(True, "", "/tmp/new", 0.0)
    line.file_deleted("/tmp/old", 0.0)
    assert line.effects == []
    line.file_deleted("/tmp/new", 0.0)
    assert line.effects == [Press("enter"), Entered()]


def test_the_end_of_the_editor_may_be_missed() -> None:
    line = InputLine()
    line.enter("text", [], random.random())
    line.effects.clear()
    line.editor_called(True, "", "/tmp/x", 1.0)
    line.handle_timer(1.5)
    assert line.effects == []
    line.handle_timer(3.1)
    assert line.effects == [Press("enter"), Entered()]
