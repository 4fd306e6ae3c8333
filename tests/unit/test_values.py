"""Values: what a frozen dataclass does, their classes do, too."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

from cc_bridge.values import Value


class Point(Value):
    """Somewhere."""

    x: int
    y: int = 0

    @property
    def is_origin(self) -> bool:
        return not self.x and not self.y


class Other(Value):
    x: int
    y: int = 0


def test_fields_by_position_by_name_and_by_default() -> None:
    assert [(p.x, p.y) for p in (Point(1), Point(1, 2), Point(y=2, x=1), Point(1, y=2))] == [
        (1, 0),
        (1, 2),
        (1, 2),
        (1, 2),
    ]
    assert Point(0).is_origin


@pytest.mark.parametrize(
    ("values", "named", "what"),
    [
        ((), {}, "x: needed"),
        ((), {"y": 1}, "x: needed"),
        ((1, 2, 3), {}, "2 fields, and 3 values"),
        ((1,), {"x": 1}, "x: no such field, or given twice"),
        ((1,), {"z": 1}, "z: no such field, or given twice"),
    ],
)
def test_wrong_fields_are_named(values: tuple[Any, ...], named: dict[str, Any], what: str) -> None:
    with pytest.raises(TypeError, match=f"Point.*{what}"):
        Point(*values, **named)


def test_equal_only_to_its_own_kind() -> None:
    assert Point(1) == Point(1, 0) != Point(1, 1)
    assert Point(1) != Other(1)
    assert Point(1) != (1, 0)
    assert len({Point(1), Point(1, 0), Other(1)}) == 2


def test_matched_by_position() -> None:
    match Point(1, 2):
        case Other():
            pytest.fail("it is none")
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_immutable() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match=r"Point\.x"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"Point\.x"):
        del point.x
    with pytest.raises(AttributeError):
        point.z = 2  # type: ignore[attr-defined]
    assert not hasattr(point, "__dict__")


def test_copies_and_dictionaries() -> None:
    point = Point(1, 2)
    assert point.replace(y=3) == Point(1, 3)
    assert point == Point(1, 2)
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
    assert point.as_dict() == {"x": 1, "y": 2}


def test_it_explains_itself() -> None:
    assert repr(Point(1)) == "Point(x=1, y=0)"
    assert str(inspect.signature(Point)) == "(x: 'int', y: 'int' = 0)"
