"""What messages mean for their turn: events, and one text without repeats. covers: B9"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.events import (
    ApiRetry,
    BackgroundTasks,
    Event,
    SubagentText,
    TextDelta,
    ThinkingDelta,
    TodoItem,
    TodoList,
    ToolResult,
    ToolUse,
    UnknownMessage,
)
from cc_bridge.protocol import stream_json as sj
from cc_bridge.protocol.streamed_answer import Content, StreamedAnswer


def text_block(text: Any) -> dict[str, Any]:
    return {"type": "text", "text": text}


def whole(*blocks: dict[str, Any], synthetic: bool = False) -> sj.WholeBlocks:
    return sj.WholeBlocks(blocks, synthetic)


def hear(answer: StreamedAnswer, *messages: Content) -> tuple[list[Event], list[str]]:
    happened: list[Event] = []
    unknown: list[str] = []
    for message in messages:
        said = answer.receive(message)
        happened += said.events
        unknown += said.unknown
    return happened, unknown


def told(happened: list[Event]) -> str:
    return "".join(event.text for event in happened if isinstance(event, TextDelta))


@given(st.lists(st.tuples(st.lists(st.text("ab\n", max_size=4), max_size=4), st.text("ab\n", max_size=4))))
def test_each_message_is_told_once_however_much_of_it_has_streamed(messages: list[tuple[list[str], str]]) -> None:
    """A message streams in pieces, all or some of it, and comes as a whole; a blank line parts it from the last."""
    answer, happened, expected = StreamedAnswer(), [], ""
    for pieces, rest in messages:
        text = "".join(pieces) + rest
        stream = [sj.BlockStart("text"), *[sj.BlockPiece("text", piece) for piece in pieces]]
        events, unknown = hear(answer, *stream, whole(text_block(text)))
        happened += events
        expected += ("\n\n" if expected and not expected.endswith("\n\n") else "") + text
        assert not unknown
        assert told(happened) == answer.text.kept == expected


BLOCKS = st.dictionaries(
    st.sampled_from(["type", "text", "thinking", "id", "name", "input"]),
    st.sampled_from(["text", "thinking", "tool_use", "", "x"]) | st.integers() | st.none(),
)
CONTENT = st.one_of(
    st.builds(sj.BlockStart, st.sampled_from(["text", "thinking", "x"])),
    st.builds(sj.BlockPiece, st.sampled_from(["text", "thinking"]), st.text(max_size=3)),
    st.builds(sj.WholeBlocks, st.lists(BLOCKS, max_size=3).map(tuple), st.booleans(), st.sampled_from(["", "p"])),
    st.builds(sj.Report, st.just(BackgroundTasks(()))),
    st.builds(sj.Tools, st.lists(st.dictionaries(st.just("tool_use_id"), st.integers())).map(tuple)),
    st.builds(sj.Unknown, st.just("k"), st.just({})),
)


@given(st.lists(CONTENT, max_size=20))
def test_the_pieces_joined_are_the_text_whatever_is_said(messages: list[Content]) -> None:
    answer = StreamedAnswer()
    happened, _ = hear(answer, *messages)
    assert told(happened) == answer.text.kept
    assert all(event.text for event in happened if isinstance(event, TextDelta))


def test_a_text_unlike_its_pieces_is_counted_and_not_said() -> None:
    answer = StreamedAnswer()
    happened, unknown = hear(answer, sj.BlockPiece("text", "abc"), whole(text_block("xyz")))
    assert (told(happened), unknown) == ("abc", ["text unlike its pieces"])


def test_thinking_is_told_once() -> None:
    block = {"type": "thinking", "thinking": "hm"}
    pieces = [sj.BlockStart("thinking"), sj.BlockPiece("thinking", "h"), sj.BlockPiece("thinking", "m")]
    assert hear(StreamedAnswer(), *pieces, whole(block)) == ([ThinkingDelta("h"), ThinkingDelta("m")], [])
    assert hear(StreamedAnswer(), whole(block)) == ([ThinkingDelta("hm")], []), "it has not streamed"
    assert hear(StreamedAnswer(), whole({"type": "thinking", "thinking": ""})) == ([], []), "it is not shown"
    assert hear(StreamedAnswer(), *pieces, sj.BlockStart("text"), whole(block))[0][-1] == ThinkingDelta("hm"), (
        "another one"
    )


def test_what_claude_code_says_itself_is_held_until_the_result() -> None:
    answer = StreamedAnswer()
    assert hear(answer, whole(text_block("one"), synthetic=True), whole(text_block("two"), synthetic=True)) == ([], [])
    assert (answer.text.kept, answer.synthetic.kept) == ("", "one\n\ntwo")


def test_tools_and_what_they_say() -> None:
    use = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}
    results = ({"tool_use_id": "t", "content": "c", "is_error": True}, {"tool_use_id": 1})
    happened, unknown = hear(
        StreamedAnswer(), whole(use, {"type": "tool_use", "id": 1, "input": "x"}), sj.Tools(results)
    )
    assert happened == [
        ToolUse("t", "Bash", {"command": "ls"}),
        ToolUse("", "", {}),
        ToolResult("t", "c", True),
        ToolResult("", None, False),
    ]
    assert not unknown


def test_what_is_not_understood_is_passed_on_and_counted() -> None:
    odd = {"type": "odd" * 50}
    happened, unknown = hear(StreamedAnswer(), whole(odd, text_block(7)), sj.Unknown("kind", {"a": 1}))
    assert happened == [UnknownMessage(odd), UnknownMessage(text_block(7)), UnknownMessage({"a": 1})]
    assert unknown == [f"block {'odd' * 20}", "block text"], "whoever reads messages counts those, and this its blocks"


def test_a_retry_is_passed_on() -> None:
    assert hear(StreamedAnswer(), sj.Retry(1, 10, 0.5, 529, "overloaded"))[0] == [
        ApiRetry(1, 10, 0.5, 529, "overloaded")
    ]


def test_what_a_subagent_says_and_does_names_its_call_and_is_no_part_of_the_answer() -> None:
    answer = StreamedAnswer()
    use = {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}
    aside = sj.WholeBlocks(
        ({"type": "thinking", "thinking": "hm"}, text_block("aside"), use),
        synthetic=False,
        parent="p",
        subagent_type="X",
    )
    results = sj.Tools(({"tool_use_id": "t", "content": "c"},), "p")
    mine = [sj.BlockStart("text"), sj.BlockPiece("text", "mi")]
    happened, unknown = hear(answer, *mine, aside, results, sj.BlockPiece("text", "ne"), whole(text_block("mine")))
    assert [event for event in happened if not isinstance(event, TextDelta)] == [
        ThinkingDelta("hm", "p"),
        SubagentText("aside", "p", "X"),
        ToolUse("t", "Bash", {}, "p"),
        ToolResult("t", "c", False, "p"),
    ]
    assert (told(happened), answer.text.kept, unknown) == ("mine", "mine", [])


def test_a_subagent_s_thinking_is_told_though_the_answer_s_has_streamed() -> None:
    block = {"type": "thinking", "thinking": "aside"}
    pieces = [sj.BlockStart("thinking"), sj.BlockPiece("thinking", "hm")]
    happened, _ = hear(StreamedAnswer(), *pieces, sj.WholeBlocks((block,), synthetic=False, parent="p"))
    assert happened == [ThinkingDelta("hm"), ThinkingDelta("aside", "p")]


def test_a_todo_list_comes_with_the_tool_that_sets_it() -> None:
    todos = [{"content": "a", "status": "pending", "activeForm": "doing a"}, {"content": "b", "status": "completed"}]
    use = {"type": "tool_use", "id": "t", "name": "TodoWrite", "input": {"todos": todos}}
    items = (TodoItem("a", "pending", "doing a"), TodoItem("b", "completed"))
    assert hear(StreamedAnswer(), whole(use))[0] == [ToolUse("t", "TodoWrite", use["input"]), TodoList(items, "t")]


def test_what_is_no_todo_list_is_a_tool_use_and_nothing_more() -> None:
    for wrong in ({}, {"todos": "x"}, {"todos": [1]}, {"todos": [{"content": "a"}]}, {"todos": [{}] * 2000}):
        use = {"type": "tool_use", "id": "t", "name": "TodoWrite", "input": wrong}
        assert hear(StreamedAnswer(), whole(use))[0] == [ToolUse("t", "TodoWrite", wrong)]


def test_a_report_is_passed_on() -> None:
    assert hear(StreamedAnswer(), sj.Report(BackgroundTasks(()))) == ([BackgroundTasks(())], [])
