"""Who reads over connections of their own, and for which turns. covers: L3"""

from __future__ import annotations

import pytest

from cc_bridge.bridge.followers import Followers
from cc_bridge.events import Event, PermissionRequest

pytestmark = pytest.mark.anyio


class Reader:
    """A follower without a connection."""

    instance_name = "demo"

    def __init__(self, *, active: str | None = None, asked: str = "") -> None:
        self.active = active
        self.can_go_on = True
        self.asked = asked
        self.closed: list[str] = []
        self.opens: Followers | None = None

    def is_asked(self, request_id: str) -> bool:
        return request_id == self.asked

    async def aclose(self, reason: str) -> None:
        self.closed.append(reason)
        if self.opens is not None:
            self.opens.add(Reader())

    async def wait_for_events(self, turn_id: str) -> list[Event]:
        return []

    async def decide(self, request: PermissionRequest) -> None:
        return

    async def interrupt_turn(self, turn_id: str) -> None:
        return

    async def abandon(self, turn_id: str) -> None:
        return

    async def leave(self) -> None:
        return


def request(name: str) -> PermissionRequest:
    return PermissionRequest(name, "Bash", {})


async def test_who_reads_for_a_turn_is_found_until_it_is_taken_away() -> None:
    followers, reader = Followers(), Reader()
    assert followers.reader("t") is None
    followers.read("t", reader)
    assert followers.reader("t") is reader
    assert followers.pop("t") is reader
    assert (followers.reader("t"), followers.pop("t")) == (None, None)


async def test_who_only_follows_reads_for_no_turn_of_ours() -> None:
    followers = Followers()
    followers.add(Reader(active="t", asked="r"))
    assert (followers.reader("t"), followers.active, followers.asked(request("r"))) == (None, None, None)


async def test_the_eldest_turn_that_has_not_ended_is_the_active_one() -> None:
    followers, ended = Followers(), Reader()
    followers.read("ended", ended)
    assert followers.active is None
    for name in ("b", "a"):
        followers.read(name, Reader(active=name))
    assert followers.active == "b"


async def test_a_permission_is_decided_by_who_reads_the_turn_that_asks() -> None:
    followers, asked = Followers(), Reader(asked="r")
    followers.read("a", Reader(asked="other"))
    followers.read("b", asked)
    assert followers.asked(request("r")) is asked
    assert followers.asked(request("unknown")) is None


async def test_all_are_closed_but_those_that_had_ended_before_another_came() -> None:
    followers, ended, follows, reads = Followers(), Reader(), Reader(), Reader()
    followers.add(ended)
    ended.can_go_on = False
    followers.add(follows)
    followers.read("t", reads)
    followers.pop("t")
    reads.can_go_on = False  # and nobody has come since
    await followers.aclose("the end")
    assert [reader.closed for reader in (ended, follows, reads)] == [[], ["the end"], ["the end"]]


async def test_who_comes_while_they_are_closed_disturbs_nobody() -> None:
    followers = Followers()
    readers = [Reader() for _ in range(3)]
    for reader in readers:
        reader.opens = followers
        followers.add(reader)
    await followers.aclose("the end")
    assert [reader.closed for reader in readers] == [["the end"]] * 3
