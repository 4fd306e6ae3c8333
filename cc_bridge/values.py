"""Immutable values with named fields, whose classes are made quickly."""

from __future__ import annotations

from typing import Any, Self, dataclass_transform

__all__ = ["Value"]


class _Fields(type):
    """Makes slots of the annotations."""

    __match_args__: tuple[str, ...]
    _defaults: dict[str, Any]
    _compared: tuple[str, ...]

    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> _Fields:
        names = tuple(space.get("__annotations__", ()))
        defaults = {item: space.pop(item) for item in names if item in space}
        left_out = space.get("NOT_COMPARED", ())
        made = {"__slots__": names, "__match_args__": names, "_defaults": defaults}
        made["_compared"] = tuple(item for item in names if item not in left_out)
        return super().__new__(cls, name, bases, {**space, **made})

    @property
    def __signature__(cls) -> Any:
        """For help() and editors."""
        from inspect import Parameter, Signature

        kind, none = Parameter.POSITIONAL_OR_KEYWORD, Parameter.empty
        types = cls.__annotations__
        return Signature(
            [Parameter(n, kind, default=cls._defaults.get(n, none), annotation=types[n]) for n in cls.__match_args__]
        )


@dataclass_transform(frozen_default=True)
class Value(metaclass=_Fields):
    """What a frozen dataclass with slots is, for many small classes.

    Dataclasses compile six functions for each class. For the messages that one command needs, that takes longer than
    Python takes to start, at each call of the command line (requirement P5); here they share their functions. Fields
    are those of the class itself, and not of its bases; defaults are shared, so they must be immutable. A class may
    name fields in ``NOT_COMPARED`` that two equal values may differ in.
    """

    def __init__(self, *values: Any, **named: Any) -> None:
        names = type(self).__match_args__
        if named or len(values) != len(names):
            values = self._in_order(values, named)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)

    def _in_order(self, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        names, what = type(self).__match_args__, type(self).__name__
        if len(values) > len(names):
            raise TypeError(f"{what} has {len(names)} fields, and {len(values)} values were given")
        by_position = dict(zip(names, values, strict=False))
        if wrong := [name for name in named if name not in names or name in by_position]:
            raise TypeError(f"{what}: {', '.join(wrong)}: no such field, or given twice")
        given = {**type(self)._defaults, **by_position, **named}
        if missing := [name for name in names if name not in given]:
            raise TypeError(f"{what}: {', '.join(missing)}: needed")
        return tuple(given[name] for name in names)

    def as_dict(self) -> dict[str, Any]:
        """The fields by their names, in order."""
        return {name: getattr(self, name) for name in type(self).__match_args__}

    def replace(self, **changes: Any) -> Self:
        """A copy in which these fields have other values."""
        return type(self)(**{**self.as_dict(), **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be assigned to")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Value) or type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self)._compared)

    def __hash__(self) -> int:
        return hash((type(self), *[getattr(self, name) for name in type(self)._compared]))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"{type(self).__qualname__}({shown})"

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), self._values()

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in type(self).__match_args__)
