"""What `update` takes together. covers: B11"""

from __future__ import annotations

import pytest

from cc_bridge import InvalidInput
from cc_bridge.cli.update import _is_of_image


@pytest.mark.parametrize(
    ("given", "names", "why"),
    [
        ({"model"}, [], "which instance"),
        ({"model", "everything"}, ["a"], "--all and --limit go with --image"),
        ({"image", "model"}, ["a"], "without options"),
        ({"image"}, [], "names, or --all"),
        ({"image", "everything"}, ["a"], "names, or --all"),
    ],
)
def test_what_does_not_go_together_is_told(given: set[str], names: list[str], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        _is_of_image(given, names)


def test_another_image_is_given_in_another_way() -> None:
    assert _is_of_image({"image", "everything", "limit"}, [])
    assert not _is_of_image({"model"}, ["a", "b"])
