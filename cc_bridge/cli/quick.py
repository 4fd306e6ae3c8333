"""A command line without mistakes, read without typer.

Importing typer takes longer than all else on the way to a first token may (requirement P5). What it is good at is what
is missing here: help, completion, and saying what is wrong. So it is given every command line that is not plain.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from .parameters import Argument, Option
from .session import set_verbose
from .verbs import VERBS

__all__ = ["VERBOSE", "read"]

#: The option that every verb has.
VERBOSE = Annotated[bool, Option("--verbose", "-v", help="Show on stderr what happens.")]

_LISTS = (list[str], list[str] | None)
_CONVERSIONS: dict[Any, Callable[[str], Any]] = {
    **dict.fromkeys((str, *_LISTS), str),
    **dict.fromkeys((float, float | None), float),
    int: int,
}


def read(words: Sequence[str]) -> Callable[[], None] | None:
    """The verb that these words call, with its arguments; None: typer is to read them."""
    verb = VERBS.get(words[0]) if words else None
    if verb is None or verb.foreign_options or "_CC_BRIDGE_COMPLETE" in os.environ:
        return None
    function = verb.load(words[0])
    if not inspect.isfunction(function):
        return None
    try:
        given, seen = _read(_parameters(function), words[1:])
    except _NotPlain:
        return None
    set_verbose(given.pop("verbose"))
    said = {"said": seen} if hasattr(function, "takes_said") else {}
    return functools.partial(function, **given, **said)


class _NotPlain(Exception):
    """Something that typer knows more of."""


class _Parameter(NamedTuple):
    name: str
    kind: Any
    said: Argument | Option
    default: Any


def _parameters(function: Callable[..., Any]) -> list[_Parameter]:
    found = [_Parameter("verbose", bool, VERBOSE.__metadata__[0], False)]  # type: ignore[attr-defined]
    for name, item in inspect.signature(function, eval_str=True).parameters.items():
        said = getattr(item.annotation, "__metadata__", (None,))[0]
        if not isinstance(said, Argument | Option):
            raise _NotPlain
        found.append(_Parameter(name, item.annotation.__origin__, said, item.default))
    return found


def _read(parameters: Sequence[_Parameter], words: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """The values of all parameters, and which options were given.

    Raises:
        _NotPlain: there is something else than what is wanted, or a mistake.
    """
    options = {name: item for item in parameters if isinstance(item.said, Option) for name in item.said.names}
    given = {item.name: item.default for item in parameters if item.default is not inspect.Parameter.empty}
    seen: set[str] = set()
    free, left = [], list(words)
    while left:
        word = left.pop(0)
        if word == "-" or not word.startswith("-"):
            free.append(word)
            continue
        option, value = _option(options, word, left)
        if option.kind in _LISTS:
            value = [*(given[option.name] if option.name in seen else ()), value]
        elif option.name in seen:
            raise _NotPlain
        given[option.name] = value
        seen.add(option.name)
    return given | _arguments([item for item in parameters if isinstance(item.said, Argument)], free), seen


def _option(options: Mapping[str, _Parameter], word: str, left: list[str]) -> tuple[_Parameter, Any]:
    """The option that a word names, and its value, which may be the next of those that are left."""
    name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
    option = options.get(name)
    if option is None or (option.kind is bool and equals):
        raise _NotPlain
    if option.kind is bool:
        return option, True
    return option, _converted(option, value if equals else _word(left))


def _word(left: list[str]) -> str:
    if not left or left[0].startswith("-"):
        raise _NotPlain
    return left.pop(0)


def _converted(option: _Parameter, value: str) -> Any:
    try:
        converted = _CONVERSIONS[option.kind](value)
    except (KeyError, ValueError):
        raise _NotPlain from None
    if isinstance(option.said, Option) and option.said.min is not None and not converted >= option.said.min:
        raise _NotPlain
    return converted


def _arguments(wanted: Sequence[_Parameter], words: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for item in wanted:
        if item.kind in _LISTS and words:
            given[item.name], words = words, []
        elif item.kind is str and words:
            given[item.name], words = words[0], words[1:]
        elif item.default is inspect.Parameter.empty or words:
            raise _NotPlain
    if words:
        raise _NotPlain
    return given
