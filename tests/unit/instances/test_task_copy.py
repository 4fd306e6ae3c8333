"""Whether a turn counts: it is in the copy of its conversation, or can still be copied. covers: B11"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from cc_bridge.errors import EngineUnavailable
from cc_bridge.instances.task_copy import copy_of_task

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@dataclass
class Container:
    """What its copies have found, and what its engine says of it, one after the other; the last one stays."""

    copies: list[bool]
    says: list[bool | None] = field(default_factory=lambda: [True])
    takes: float = 0.1
    has: set[str] = field(default_factory=set)
    copied: set[str] = field(default_factory=set)
    tries: int = 0
    execs: Any = None
    id: str = "c"

    async def ends(self, limit: float) -> bool:
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if said is None:
            raise EngineUnavailable("no engine answers")
        if said:
            await anyio.sleep(limit)
        return not said

    async def copy(self, *about: Any) -> bool:
        self.tries += 1
        await anyio.sleep(self.takes)
        is_copied = self.copies.pop(0) if len(self.copies) > 1 else self.copies[0]
        if is_copied:
            self.copied |= self.has
        return is_copied

    async def has_turn(self, session_id: str, turn_id: str) -> bool:
        return turn_id in self.copied


class Copy:
    def __init__(self, container: Container) -> None:
        self.copy, self.has = container.copy, container.has_turn


async def why(
    container: Container,
    turn_id: str = "turn",
    until_gone: Callable[[], Awaitable[None]] = anyio.sleep_forever,
    *,
    ran_there: bool = True,
) -> bool:
    """Whether the turn does not count."""
    given: Any = Copy(container), container
    with anyio.fail_after(200):
        return bool(await copy_of_task(*given, "s", "/w", until_gone, turn_id, ran_there=ran_there))


async def test_a_copy_that_succeeds_is_enough_also_where_what_it_has_cannot_be_told() -> None:
    """A slash command has no answer of the model's in the transcript."""
    assert not await why(container := Container([True]))
    assert container.tries == 1


async def test_one_that_has_ended_before_is_known_by_nobody() -> None:
    assert await why(Container([False], [False]))


async def test_one_is_tried_again_that_runs_on() -> None:
    assert await why(Container([False], [True, False]))
    assert not await why(Container([False, True], [True]))


async def test_one_that_lives_and_cannot_be_copied_counts_and_is_not_tried_for_ever() -> None:
    assert not await why(container := Container([False], [True]))
    assert container.tries == 2
    assert not await why(container := Container([False], [True], takes=100))
    assert container.tries == 1


@pytest.mark.parametrize("takes", [0.1, 4.9, 5.1, 30])
async def test_one_that_ends_in_a_copy_is_looked_at_twice_however_long_it_took(takes: float) -> None:
    assert await why(Container([False], [True, False], takes=takes))


async def test_an_engine_that_says_nothing_for_a_moment_has_ended_nothing() -> None:
    assert not await why(Container([False, False, False, True], [None, None, None, True]))
    assert await why(Container([False], [None, None, None, False]))
    assert not await why(Container([False], [None])), "nor one that says nothing at all, while its node is there"


async def test_one_whose_node_has_gone_is_given_up() -> None:
    async def gone() -> None:
        await anyio.sleep(10)

    began = anyio.current_time()
    assert await why(Container([False], [None], takes=100), until_gone=gone)
    assert anyio.current_time() - began < 20


async def test_what_the_copy_has_by_then_counts_whatever_became_of_the_container() -> None:
    """It was stopped, which copies, or another program has copied; or a later turn's copy has it."""
    container = Container([False], [False], copied={"turn"})
    assert not await why(container, ran_there=False)
    assert not container.tries


async def test_what_another_container_had_counts_only_where_the_copy_has_it() -> None:
    assert await why(Container([True]), ran_there=False), "what is copied is what the next one was given"
    assert not await why(Container([True], has={"turn"}), ran_there=False)
    assert not await why(Container([True]), "", ran_there=False), "a pane's messages have other ids"
