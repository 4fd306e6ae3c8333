"""Markdown as harmless HTML, whole and as it grows."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.cli import harmless
from cc_bridge.service.page import markup as markup_module
from cc_bridge.service.page.markup import Block, Growing, code_html, markup

RICH = """# Title

Some **bold** text, `code`, ~~old~~ and https://example.com/a_(b).

- one
- two

  still two
1. first
2. second

> a quote
> of two lines

```python
def f(x):
    return "<b>"
```

| a | b |
|---|--:|
| 1 | 2 |

---
the end"""

LONG = "\n\n".join(
    [
        RICH,
        "\n".join(f"{n + 1}. item {n}" for n in range(200)),
        "```py\n" + "\n".join(f"x = {n}  # <&>" if n % 17 else "" for n in range(500)) + "\n```",
        "| a | b |\n|---|---|\n" + "\n".join(f"| {n} | **b** |" for n in range(90)),
        "a long line " * 3000,
        "```json\n" + "[1,2,3]," * 6000 + "\n```",
        "- " + "x" * 50 + "\n" + "- item\n" * 300,
        "> quoted\n" * 3000,
    ]
)


def streamed(text: str, seed: int, most: int = 60) -> list[Block]:
    """As a page has the blocks after it was given the text in pieces."""
    chance, growing, shown, at = random.Random(seed), Growing(), {}, 0
    while at < len(text):
        piece = text[at : at + chance.randint(1, most)]
        at += len(piece)
        growing.add(piece)
        for block in growing.settled():
            shown[block.number] = block
        if (last := growing.open_block()) is not None:
            shown[last.number] = last
    for block in growing.end():
        shown[block.number] = block
    return [shown[number] for number in sorted(shown)]


def html(text: str) -> str:
    return "".join(block.html for block in markup(text))


def test_the_usual_marks_are_rendered() -> None:
    found = html(RICH)
    for wanted in (
        "<h1>Title</h1>",
        "<strong>bold</strong>",
        "<code>code</code>",
        "<s>old</s>",
        "<ol>",
        "<blockquote>",
    ):
        assert wanted in found
    assert '<a href="https://example.com/a_(b)" target="_blank" rel="noopener noreferrer nofollow">' in found
    assert '<td align="right">2</td>' in found
    assert '<span class="k">def</span> <span class="nf">f</span>' in found


# covers: B13
@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<style>body{display:none}</style>",
        '<iframe src="https://x.example"></iframe>',
        '<form action="https://x.example"><input name="q"></form>',
        '<div style="position:fixed" class="composer" id="app">over all</div>',
        '<img src="https://x.example/a.png" onerror="alert(1)">',
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](data:text/html,<script>alert(1)</script>)",
        "[a](vbscript:x)",
        "[a](/v1/session)",
        "[a](//x.example/)",
        '[a](https://x.example "\\" onclick=\\"alert(1)")',
        "![a](https://x.example/pixel.png)",
        '![a"onerror="b](https://x.example/"><script>)',
        '<https://x.example/"onclick=alert(1)>',
        "https://x.example/<script>alert(1)</script>",
        '```"><script>alert(1)</script>\nx\n```',
        "```html\n<script>alert(1)</script>\n```",
        "| <script> | <img src=x onerror=alert(1)> |\n|---|---|\n| <b id=x> | y |",
        "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x&#62;",
        "<svg><g onload=alert(1)></svg><math><mi xlink:href=javascript:x>",
        "<!-- --><base href=https://x.example><meta http-equiv=refresh>",
    ],
)
def test_what_could_do_something_does_nothing(text: str) -> None:
    found = html(text)
    tags = re.findall(r"<\s*/?\s*([a-zA-Z0-9-]+)((?:[^<>\"]|\"[^\"]*\")*)>", found)
    assert {name for name, _ in tags} <= {"p", "a", "code", "span", "table", "thead", "tbody", "tr", "th", "td", "em"}
    for name, attributes in tags:
        names = set(re.findall(r"([\w-]+)=\"", attributes))
        assert names <= ({"href", "target", "rel"} if name == "a" else {"class", "align"})
        for address in re.findall(r'href="([^"]*)"', attributes):
            assert address.startswith(("https://", "http://", "mailto:"))


def test_a_picture_is_a_link_and_is_not_fetched() -> None:
    assert '<a href="https://x.example/a.png"' in html("![a chart](https://x.example/a.png)")
    assert "[a chart]</a>" in html("![a chart](https://x.example/a.png)")


def test_only_classes_of_pygments_are_let_through() -> None:
    found = html('```python\nclass A: pass\n```\n<span class="composer">x</span>')
    assert set(re.findall(r'<span class="([^"]*)"', found)) == {"k", "nc"}


@pytest.mark.parametrize("seed", range(4))
def test_the_blocks_do_not_depend_on_the_pieces_in_which_it_came(seed: int) -> None:
    assert streamed(LONG, seed, most=4000 if seed else 700) == markup(LONG)


@given(st.text(alphabet="ab *_`#>-|:1.[](!)\n ~", max_size=300), st.integers(0, 100))
def test_nor_for_any_text(text: str, seed: int) -> None:
    whole = [block.html for block in markup(text)]
    assert [block.html for block in streamed(text, seed, most=9)] == whole or "]:" in text


@given(st.text(max_size=500))
def test_no_text_is_too_strange(text: str) -> None:
    streamed(text, 1)


def test_a_block_that_is_settled_never_comes_again() -> None:
    growing, seen = Growing(), set()
    for begin in range(0, len(LONG), 1000):
        growing.add(LONG[begin : begin + 1000])
        for block in growing.settled():
            assert block.number not in seen
            seen.add(block.number)
        last = growing.open_block()
        assert last is None or last.number == len(seen)


def test_a_long_block_comes_in_pieces_that_join() -> None:
    code = [block for block in markup("```python\n" + "x = 1\n" * 1000 + "```\n") if block.kind == "code"]
    assert [block.joins for block in code] == [False] + [True] * (len(code) - 1)
    assert "".join(re.sub("<[^>]+>", "", block.html) for block in code) == "x = 1\n" * 1000
    table = markup("| a |\n|---|\n" + "| b |\n" * 100)
    assert sum(block.html.count("<td>") for block in table) == 100
    assert all(block.html.count("<th>") == 1 for block in table)
    items = markup("\n".join(f"{n}. x" for n in range(1, 101)))
    assert [re.findall(r'start="(\d+)"', block.html) for block in items] == [[], ["41"], ["81"]]


def test_no_piece_is_large() -> None:
    for text in (
        "word " * 50_000,
        "```\n" + "x" * 250_000,
        "- a\n" * 15_000,
        "> a\n" * 15_000,
        "|a|\n|-|\n" + "|b|\n" * 5000,
    ):
        assert max(len(block.html) for block in markup(text)) < 100_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a **bold", "<p>a <strong>bold</strong></p>"),
        ("a `code", "<p>a <code>code</code></p>"),
        ("a **", "<p>a</p>"),
        ("text\n-", "<p>text</p>"),
        ("text\n1.", "<p>text</p>"),
        ("see [the docs](https://x.exam", "<p>see</p>"),
        ("| a | b |\n|--", None),
        ("##", None),
        ("", None),
    ],
)
def test_of_what_is_not_complete_no_marks_are_shown(text: str, shown: str | None) -> None:
    growing = Growing()
    growing.add(text)
    assert not list(growing.settled())
    block = growing.open_block()
    assert (block.html.strip() if block else None) == shown


def test_code_of_unknown_languages_or_with_long_lines_is_plain() -> None:
    assert code_html("a < b", "no-such-language") == "a &lt; b"
    assert code_html("x = 1" * 1000, "python") == "x = 1" * 1000


@pytest.mark.parametrize("text", ["half \ud83d", "```python\nx = '\ud83d'\n```\n", "`\udc00`"])
def test_half_a_surrogate_pair_becomes_a_question_mark(text: str) -> None:
    assert "?" in html(text)
    growing = Growing()
    growing.add(text)
    shown = "".join(block.html for block in [*growing.settled(), *growing.end()])
    assert shown == html(text)
    shown.encode()


def test_code_that_grows_is_coloured_when_it_is_whole() -> None:
    growing = Growing()
    growing.add("```python\nimport os\n")
    block = growing.open_block()
    assert block is not None
    assert block.html == "import os\n"
    growing.add("```\n")
    assert [found.html for found in growing.end()] == ['<span class="kn">import</span> <span class="nn">os</span>\n']


@pytest.mark.parametrize("language", ["hcl", "terraform", "tsx"])
def test_languages_whose_lexers_are_slow_are_plain(language: str) -> None:
    assert code_html("a-" * 50, language) == "a-" * 50


def test_of_a_paragraph_of_brackets_no_links_are_made() -> None:
    assert ">a</a>" not in html("[" * 501 + "[a](https://a.example)")
    assert ">a</a>" in html("[" * 20 + "[a](https://a.example)")


def test_the_page_shows_all_that_the_terminal_shows_of_what_is_unseen() -> None:
    script = (Path(markup_module.__file__).parent / "static" / "dom.js").read_text(encoding="utf-8")
    (declared,) = re.findall(r"const UNSEEN = ([^;]*);", script)
    ranges = "".join(re.findall(r'"([^"]*)"', declared)).replace("\\\\", "\\")
    ranges = re.sub(r"\\u\{([0-9a-f]+)\}", lambda found: f"\\U{int(found[1], 16):08x}", ranges)
    page, terminal = re.compile(f"[{ranges}]"), re.compile(harmless._UNSEEN)
    missing = [f"{code:04X}" for code in range(0x110000) if terminal.match(chr(code)) and not page.match(chr(code))]
    assert missing == []
