"""Markdown that a model writes, as harmless HTML: whole, or block by block while it grows. Sans-I/O.

What is written is untrusted. markdown-it-py reads it with HTML switched off, and nh3 lets through a short list of tags
and almost no attributes, whatever the renderer made. No image is loaded: an image is a link.

A growing text is cut into blocks. A block that is followed by another one never changes again, so it is rendered once;
only the last is rendered anew. A block that grows without an end (code, a table, a list) is cut into pieces that a
page puts together again, so that both sides work in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.parser_inline import ParserInline
from markdown_it.token import Token
from pygments import lex
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

__all__ = ["Block", "Growing", "code_html", "markup"]

#: Characters of a text that are read at once. What is not cut below is cut here, at the end of a line.
_WINDOW = 16_000

#: A piece of a longer block has at most so many lines of code, rows, items, characters of a list or of a paragraph.
_CODE_LINES = 80
_ROWS = 25
_ITEMS = 40
_LIST = 6_000
_PARAGRAPH = 8_000

#: Opening brackets of one paragraph in which links are looked for: each may begin one that ends at its end.
_BRACKETS = 500

#: Characters of code that are coloured, together and in a line: lexers are regular expressions.
_COLOURED = 16_000
_COLOURED_LINE = 200

#: Languages that are coloured. Others are as readable in one colour, and each lexer is a program run on hostile input.
_NAMES = """
bash c c++ cpp cmake console cs csharp css csv diff docker dockerfile go graphql groovy haskell html ini java
javascript js json json5 jsx julia kotlin lua makefile markdown md nginx objective-c perl php powershell proto protobuf
py python python3 pycon r rb ruby rs rust scala sh shell sql svg swift toml ts typescript xml yaml yml zsh
"""
_LANGUAGES = frozenset(_NAMES.split())

_TAG_NAMES = """
a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul
"""
_TAGS = set(_TAG_NAMES.split())
_SIDES = {"align": {"left", "center", "right"}}
_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_BARE_LINK = re.compile(r"https?://[^\s<>\"'`{}|\\^]{1,2000}", re.IGNORECASE)
_CLASSES = {name for name in STANDARD_TYPES.values() if name}


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a text as HTML.

    Attributes:
        number: its place in the text, from 0. A block that comes again under its number replaces the one before.
        kind: ``text``; ``code``: the inside of a ``pre``; ``table``: a whole table.
        html: harmless.
        joins: it goes on with the block before: code with its lines, a table with its rows.
        language: of code, as the writer calls it; else empty.
    """

    number: int
    kind: str
    html: str
    joins: bool = False
    language: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON; what is empty is left out."""
        found: dict[str, Any] = {"n": self.number, "kind": self.kind, "html": self.html}
        if self.joins:
            found["joins"] = True
        if self.language:
            found["language"] = self.language
        return found


def markup(text: str) -> list[Block]:
    """A whole text."""
    growing = Growing()
    growing.add(text)
    return [*growing.settled(), *growing.end()]


@dataclass(slots=True)
class Growing:
    """A text that grows. Call :meth:`add` with each piece, then :meth:`settled`, then :meth:`open_block`.

    The blocks depend on the text alone and not on the pieces in which it came: who reads it again from its beginning
    gets the same numbers.
    """

    _rest: str = ""
    _number: int = 0
    _joins: bool = False
    _start: int | None = None
    _has_line: bool = False
    _look_at: int = 0
    _env: dict[str, Any] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """More of it. Costs nothing; the work is done by the others."""
        # A model can write half a surrogate pair, which nobody can encode.
        self._rest += text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
        self._has_line = self._has_line or "\n" in text or len(self._rest) > _WINDOW

    def settled(self) -> Iterator[Block]:
        """The blocks that will not change any more, and were not given yet. Each takes a few milliseconds.

        Where nothing was settled in a long rest, the next look comes when it has grown by an eighth.
        """
        while self._has_line and len(self._rest) >= self._look_at:
            before = len(self._rest)
            blocks = self._settle(is_end=False)
            if not blocks and len(self._rest) == before:
                self._has_line = False
                self._look_at = min(before + before // 8, _WINDOW + 1) if before <= _WINDOW else 0
            yield from blocks

    def open_block(self) -> Block | None:
        """The last block as it is so far, which :meth:`settled` will give again; None: there is nothing to show."""
        shown = _presentable(self._rest)
        if not shown.strip():
            return None
        tokens = _PARSER.parse(shown, {"references": dict(self._env.get("references", {}))})
        parts = list(_top_level(tokens))
        if len(parts) == 1:
            return self._block(parts[0], is_open=True)
        return Block(self._number, "text", _clean(_PARSER.renderer.render(tokens, _PARSER.options, {})), self._joins)

    def end(self) -> Iterator[Block]:
        """Nothing more comes: all the rest."""
        while self._rest.strip():
            yield from self._settle(is_end=True)
        self._rest = ""

    # Private

    def _settle(self, *, is_end: bool) -> list[Block]:
        """What is settled in the next window, which is taken from the rest."""
        window = self._window(is_end=is_end)
        is_all = is_end and len(window) == len(self._rest)
        is_full = len(window) < len(self._rest) and len(self._rest) > _WINDOW
        parts = list(_top_level(_PARSER.parse(window, self._env)))
        lines = window.splitlines(keepends=True)
        found: list[Block] = []
        for number, part in enumerate(parts):
            begin, after = part[0].map or (0, 0)
            if cuts := list(_cuts(part, lines[begin:after], is_full=is_full and number == 0)):
                found += [self._take(cut.tokens or part, cut) for cut in cuts]
                self._go_on(cuts[-1].prefix + "".join(lines[begin + cuts[-1].lines :]), len(window))
                return found
            if number == len(parts) - 1 and not is_all and not (is_full and number == 0):
                self._rest = "".join(lines[begin:]) + self._rest[len(window) :]
                return found
            found.append(self._take(part))
        self._rest = self._rest[len(window) :] if parts or is_all or is_full else self._rest
        return found

    def _window(self, *, is_end: bool) -> str:
        """Whole lines from the beginning; of a line that is too long, a part."""
        if is_end and len(self._rest) <= _WINDOW:
            return self._rest
        end = self._rest.rfind("\n", 0, _WINDOW) + 1
        if len(self._rest) > _WINDOW and end < _WINDOW // 2:
            end = (self._rest.rfind(" ", _WINDOW // 2, _WINDOW) + 1) or _WINDOW
        return self._rest[:end]

    def _go_on(self, left: str, read: int) -> None:
        self._rest = left + self._rest[read:]
        self._joins = True

    def _take(self, part: Sequence[Token], cut: _Cut | None = None) -> Block:
        block = self._block(part, cut.text if cut else None)
        self._number += 1
        self._joins = cut is not None
        self._start = cut.start if cut else None
        self._look_at = 0
        return block

    def _block(self, part: Sequence[Token], text: str | None = None, *, is_open: bool = False) -> Block:
        first = part[0]
        if first.type in ("fence", "code_block"):
            language = first.info.split(maxsplit=1)[0][:40] if first.info.strip() else ""
            code = first.content if text is None else text
            # What grows is coloured when it is whole: again with each word is too much of a slow lexer.
            shown = _escape(code) if is_open else code_html(code, language)
            return Block(self._number, "code", shown, self._joins, language)
        if first.type == "ordered_list_open" and self._start is not None:
            first.attrSet("start", str(self._start))
        html = _clean(_PARSER.renderer.render(part, _PARSER.options, self._env))
        return Block(self._number, "table" if first.type == "table_open" else "text", html, self._joins)


# Cutting


@dataclass(frozen=True, slots=True)
class _Cut:
    """The first piece of a long block. ``lines`` of it are taken; what remains begins with ``prefix``."""

    lines: int
    prefix: str = ""
    text: str | None = None
    tokens: Sequence[Token] | None = None
    start: int | None = None


def _top_level(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    part: list[Token] = []
    for token in tokens:
        part.append(token)
        if token.level == 0 and token.nesting <= 0:
            yield part
            part = []


def _cuts(part: Sequence[Token], lines: Sequence[str], *, is_full: bool) -> Iterator[_Cut]:
    """The pieces that are taken from a block that is long already, whether or not it has ended."""
    match part[0].type:
        case "fence":
            yield from _cut_code(part[0], lines, is_full=is_full)
        case "table_open":
            for row in range(2, len(lines) - _ROWS, _ROWS):
                rows = "".join([*lines[:2], *lines[row : row + _ROWS]])
                yield _Cut(row + _ROWS, "".join(lines[:2]), tokens=_PARSER.parse(rows))
        case "bullet_list_open" | "ordered_list_open":
            yield from _cut_list(part, lines)
        case "paragraph_open":
            yield from _cut_paragraph(lines)


def _cut_code(fence: Token, lines: Sequence[str], *, is_full: bool) -> Iterator[_Cut]:
    """Where a line is empty, if there is such a place: colours begin anew with each piece."""
    inside = fence.content.splitlines(keepends=True)
    begin = 0
    while (most := _most_code(inside, begin)) < len(inside):
        empty = [number for number in range((begin + most) // 2, most) if not inside[number].strip()]
        after = empty[-1] + 1 if empty else most
        yield _Cut(1 + after, lines[0], text="".join(inside[begin:after]))
        begin = after
    if is_full and begin == 0 and inside and len(inside[0]) > _WINDOW // 2:  # one line: a part of it
        yield _Cut(len(lines), lines[0], text="".join(inside))


def _most_code(inside: Sequence[str], begin: int) -> int:
    """How many lines the piece that begins there has at most."""
    size = 0
    for number in range(begin, min(begin + _CODE_LINES, len(inside))):
        size += len(inside[number])
        if size > _WINDOW // 2:
            return max(number, begin + 1)
    return min(begin + _CODE_LINES, len(inside))


def _cut_list(part: Sequence[Token], lines: Sequence[str]) -> Iterator[_Cut]:
    first = part[0]
    top = (first.map or [0])[0]
    begins = [t.map[0] - top for t in part if t.type == "list_item_open" and t.level == 1 and t.map]
    sizes = [0]
    for line in lines:
        sizes.append(sizes[-1] + len(line))
    item = 0
    while True:
        begin = begins[item]
        fitting = sum(1 for at in begins[item + 1 : item + 1 + _ITEMS] if sizes[at] - sizes[begin] <= _LIST)
        after = item + max(fitting, 1)
        is_long = len(begins) - item > _ITEMS or sizes[-1] - sizes[begin] > _LIST
        if not is_long or after >= len(begins):
            return
        start = int(first.attrGet("start") or 1) + after if first.type == "ordered_list_open" else None
        yield _Cut(begins[after], tokens=_PARSER.parse("".join(lines[begin : begins[after]])), start=start)
        item = after


def _cut_paragraph(lines: Sequence[str]) -> Iterator[_Cut]:
    size = begin = 0
    for number, line in enumerate(lines):
        size += len(line)
        if size > _PARAGRAPH and number > begin:
            yield _Cut(number, tokens=_PARSER.parse("".join(lines[begin:number])))
            begin, size = number, len(line)


# What is shown of a text whose end has not come yet

_MARKS_ONLY = re.compile(r"\s*(?:[-*+#>|`~=_]{1,10}|\d{1,9}[.)]?)[ \t]*\Z")
_HALF_MARK = re.compile(r"(?:\*{1,3}|`{1,3}|!?\[|\[[^\]\n]{0,80}\]\([^)\s]{0,400})\Z")


def _presentable(text: str) -> str:
    """Without marks whose meaning the next characters decide, and with those closed that are open: nothing flickers."""
    before, newline, line = text.rpartition("\n")
    if _in_fence(text):
        return before + newline if re.match(r"\s{0,3}(`{1,3}|~{1,3})\s*\Z", line) else text
    begin = text.rfind("\n\n") + 2 if "\n\n" in text else 0
    if text.startswith("|", begin) and text.count("\n", begin) < 2 and len(text) - begin < 2000:
        return text[:begin]  # whether this is a table says the next line
    if _MARKS_ONLY.match(line):
        return before + newline
    text = text[: len(text) - len(found[0])] if (found := _HALF_MARK.search(text)) else text
    if len(text) - begin < _PARAGRAPH:
        if text.count("`", begin) % 2:
            return text + "`"
        if text.count("**", begin) % 2:
            return text.rstrip() + "**"
    return text


def _in_fence(text: str) -> bool:
    """The rest always begins with a block, so it is in a fence if it begins with one that is not closed."""
    found = re.match(r" {0,3}(`{3,}|~{3,})", text)
    return found is not None and not re.search(rf"^ {{0,3}}{found[1]}+[ \t]*$", text[found.end() :], re.MULTILINE)


# Rendering


@lru_cache(maxsize=600)
def code_html(text: str, language: str = "") -> str:
    """Code as coloured text: the inside of a ``pre``, each class one of Pygments'.

    Colouring is what costs most, and a page that comes back asks for the same pieces again.
    """
    text = text.encode("utf-8", "replace").decode()
    lexer = _lexer(language.lower())
    if lexer is None or len(text) > _COLOURED or any(len(line) > _COLOURED_LINE for line in text.split("\n")):
        return _escape(text)
    return _clean("".join(_coloured(lexer, text)))


def _coloured(lexer: Lexer, text: str) -> Iterator[str]:
    for kind, value in lex(text, lexer):
        while kind not in STANDARD_TYPES and kind.parent is not None:
            kind = kind.parent
        name = STANDARD_TYPES.get(kind, "")
        plain = not name or name in ("w", "n", "p") or not value.strip()
        yield _escape(value) if plain else f'<span class="{name}">{_escape(value)}</span>'


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    if language not in _LANGUAGES:
        return None
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _href(tag: str, attribute: str, value: str) -> str | None:
    if attribute != "href":
        return value
    return value if _LINK.match(value) else None


def _clean(html: str) -> str:
    return _CLEANER.clean(html)


_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags={"script", "style"},
    attributes={"*": set(), "a": {"href"}, "ol": {"start"}},
    attribute_filter=_href,
    strip_comments=True,
    link_rel="noopener noreferrer nofollow",
    allowed_classes={"span": _CLASSES},
    tag_attribute_values={"td": _SIDES, "th": _SIDES},
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes={"http", "https", "mailto"},
)


def _image(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """A link: nothing is fetched from another host because a model has written its name."""
    token = tokens[index]
    alt = self.renderInlineAsText(token.children, options, env) or "image"
    return f'<a href="{_escape(str(token.attrGet("src") or "")).replace(chr(34), "&quot;")}">[{_escape(alt)}]</a>'


def _inline(state: Any) -> None:
    """As markdown-it does; but no links in what has brackets enough to keep it busy for seconds."""
    for token in state.tokens:
        if token.type == "inline":
            inline = state.md.inline if token.content.count("[") <= _BRACKETS else _WITHOUT_LINKS
            token.children = token.children if token.children is not None else []
            inline.parse(token.content, state.md, state.env, token.children)


def _link_addresses(state: Any) -> None:
    """Addresses that stand in a text become links."""
    for block in state.tokens:
        if block.type == "inline" and "://" in block.content:
            block.children = list(_with_links(block.children or []))


def _with_links(tokens: Sequence[Token]) -> Iterator[Token]:
    depth = 0
    for token in tokens:
        depth += token.nesting if token.type in ("link_open", "link_close") else 0
        if token.type != "text" or depth or "://" not in token.content:
            yield token
            continue
        end = 0
        for found in _BARE_LINK.finditer(token.content):
            address = found[0].rstrip(".,;:!?*_~")
            address = address.rstrip(")") if "(" not in address else address
            yield _text(token.content[end : found.start()])
            yield Token("link_open", "a", 1, attrs={"href": address})
            yield _text(address)
            yield Token("link_close", "a", -1)
            end = found.start() + len(address)
        yield _text(token.content[end:])


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


def _sides(state: Any) -> None:
    """The side of a column as an attribute: styles are not let through."""
    for token in state.tokens:
        style = token.attrGet("style") if token.type in ("th_open", "td_open") else None
        if style:
            token.attrs = {"align": str(style).removeprefix("text-align:")}


def _parser() -> MarkdownIt:
    # No headings by underlining: a paragraph would flash as one whenever a list begins below it.
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 30}).enable(["table", "strikethrough"])
    parser.disable(["lheading", "html_block", "html_inline"])
    parser.add_render_rule("image", _image)
    parser.core.ruler.at("inline", _inline)
    parser.core.ruler.push("addresses", _link_addresses)
    parser.core.ruler.push("sides", _sides)
    return parser


def _without_links() -> ParserInline:
    inline = ParserInline()
    inline.ruler.disable(["link", "image", "linkify", "html_inline"])
    return inline


_PARSER = _parser()
_WITHOUT_LINKS = _without_links()
