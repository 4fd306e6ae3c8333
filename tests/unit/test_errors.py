"""Errors that a user can act on. covers: C15"""

from __future__ import annotations

import inspect

import pytest

from cc_bridge import BridgeError, errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BridgeError)]


#: Which find their words themselves.
WORDED = {errors.DockerfileNotApproved, errors.InstanceDiffers}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WORDED], ids=lambda kind: kind.__name__)
def test_each_says_what_where_and_what_to_do(kind: type[BridgeError]) -> None:
    text = str(kind("it broke", instance="demo", hint="Mend it."))
    assert text == "demo: it broke. Mend it."


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_stands_in_the_tree_of_the_docstring(kind: type[BridgeError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
    assert kind.__name__ in errors.__all__


def test_a_hint_of_the_kind_s_own() -> None:
    assert "DOCKER_HOST" in str(errors.EngineUnavailable("no"))
    assert str(errors.EngineUnavailable("no", hint="")) == "no"
