"""Every client gets every frame once and in order, however they lag, and whatever room there is. covers: B1, C16"""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cc_bridge_agent import audience as audience_module
from cc_bridge_agent import journal as journal_module
from cc_bridge_agent.audience import Audience
from cc_bridge_agent.ledger import Ledger


class FakeClient:
    """A client whose pipe takes ``room`` bytes and is drained on demand."""

    HIGH_WATER = 300

    def __init__(self, audience: Audience, after: int) -> None:
        self.given = self.acknowledged = 0
        self.feed: Any = None
        self.after, self.received, self.waiting, self.gone = after, b"", b"", False
        self._audience = audience

    @property
    def clogged(self) -> bool:
        return len(self.waiting) > self.HIGH_WATER

    @property
    def closed(self) -> bool:
        return self.gone

    def send(self, data: bytes) -> None:
        self.waiting += data

    def drain(self, size: int) -> None:
        was_clogged = self.clogged
        self.received, self.waiting = self.received + self.waiting[:size], self.waiting[size:]
        if was_clogged and not self.clogged:
            self._audience.feed(self)

    def close(self, why: str) -> None:
        assert self.given + 1 < self._audience._ledger.journal.first, f"it was let go: {why}"
        self.gone = True

    def numbers(self) -> list[int]:
        whole = (self.received + self.waiting).split(b"\n")[:-1]
        return [int(line.split(b":")[1].split(b",")[0]) for line in whole]


class Audiences(RuleBasedStateMachine):
    """A session that speaks, hosts that come, lag, acknowledge and go, and a disk that is full at times."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        # Small, so that a few frames reach every boundary.
        self.sizes = journal_module.SEGMENT, audience_module._CHUNK
        journal_module.SEGMENT, audience_module._CHUNK = 200, 100
        self.ledger = Ledger(self.directory + "/journal", 2000)
        self.full_disk = False
        append = self.ledger.journal.append

        def append_if_there_is_room(frames: list[bytes]) -> None:
            if self.full_disk:
                raise OSError(28, "No space left on device")
            append(frames)

        self.ledger.journal.append = append_if_there_is_room
        self.audience = Audience(self.ledger, lambda *_, **__: None, lambda: None)
        self.clients: list[FakeClient] = []

    def teardown(self) -> None:
        journal_module.SEGMENT, audience_module._CHUNK = self.sizes
        self.ledger.journal.close()
        shutil.rmtree(self.directory)

    @initialize(count=st.integers(0, 3))
    def some_come(self, count: int) -> None:
        for _ in range(count):
            self.attach(0)

    @precondition(lambda self: self.audience.has_room())
    @rule(lines=st.lists(st.integers(2, 150), min_size=1, max_size=5))
    def speak(self, lines: list[int]) -> None:
        self.ledger.number_output([b"{%s}" % (b"x" * size) for size in lines])
        self.audience.tell()

    @rule(back=st.integers(0, 50))
    def attach(self, back: int) -> None:
        after = self.ledger.position([max(0, self.ledger.seq - back), self.ledger.journal.id], None)
        if after is not None:
            client = FakeClient(self.audience, after)
            self.clients.append(client)
            self.audience.attach(client, after)

    @rule(which=st.integers(0, 9), size=st.integers(1, 1000))
    def drain(self, which: int, size: int) -> None:
        if self.clients:
            self.clients[which % len(self.clients)].drain(size)

    @rule(which=st.integers(0, 9))
    def acknowledge(self, which: int) -> None:
        readers = [client for client in self.clients if not client.gone]
        if readers:
            client = readers[which % len(readers)]
            got = client.received.count(b"\n")
            self.audience.acknowledge(client, client.after + got)

    @rule(which=st.integers(0, 9))
    def leave(self, which: int) -> None:
        if self.clients:
            client = self.clients.pop(which % len(self.clients))
            client.gone = True
            self.audience.detach(client)

    @rule(full=st.booleans())
    def disk(self, full: bool) -> None:
        self.full_disk = full

    @invariant()
    def each_has_all_from_where_it_began(self) -> None:
        for client in [client for client in self.clients if not client.gone]:
            numbers = client.numbers()
            assert numbers == list(range(client.after + 1, client.after + 1 + len(numbers)))
            assert client.given == client.after + len(numbers)
            if not client.clogged and not self.ledger.waiting and not client.gone:
                assert client.given == self.ledger.seq, "it waits for nothing"

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        """When everybody has read and acknowledged everything, and there is a disk, there is room."""
        if not self.full_disk and self.clients and not self.ledger.waiting:
            idle = all(client.acknowledged == self.ledger.seq for client in self.clients)
            assert not idle or self.audience.has_room()


TestAudiences = Audiences.TestCase
TestAudiences.settings = settings(max_examples=300, stateful_step_count=40, suppress_health_check=list(HealthCheck))


def test_who_has_caught_up_is_not_fed_again_what_it_got_at_once() -> None:
    session = Audiences()
    try:
        session.attach(0)
        (client,) = session.clients
        session.speak([150, 150])  # clogged
        session.speak([150])
        client.drain(200)  # the last one comes from the journal
        client.drain(1000)
        session.speak([10])
        session.speak([150, 150])  # clogged again
        session.speak([10])
        client.drain(1000)
        assert client.numbers() == list(range(1, 8))
    finally:
        session.teardown()
