"""Every client gets every frame once and in order, however they lag, and whatever room there is. covers: B1, C16"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


class Reader(FakeClient):
    """A client that may be let go, and says why."""

    def __init__(self, audience: Audience) -> None:
        super().__init__(audience, 0)
        self.why = ""

    def close(self, why: str) -> None:
        self.gone, self.why = True, self.why or why


class Stage:
    """An audience over a real ledger, and what it has called."""

    def __init__(self, directory: Path, limit: int = 100_000) -> None:
        self.room = 0
        self.logged: list[str] = []
        self.ledger = Ledger(str(directory / "journal"), limit)
        self.audience = Audience(self.ledger, lambda event, **_: self.logged.append(event), self._on_room)

    def _on_room(self) -> None:
        self.room += 1

    def attach(self, after: int = 0) -> Any:
        reader: Any = Reader(self.audience)
        reader.after = after
        self.audience.attach(reader, after)
        return reader

    def speak(self, *sizes: int) -> None:
        self.ledger.number_output([b"{%b}" % (b"x" * size) for size in sizes])
        self.audience.tell()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(journal_module, "SEGMENT", 1)
    return Stage(tmp_path)


def test_who_has_all_gets_what_is_said_at_once(stage: Stage) -> None:
    stage.speak(10)
    late, early = stage.attach(1), stage.attach(0)
    stage.speak(10, 10)
    assert (late.numbers(), early.numbers()) == ([2, 3], [1, 2, 3])
    assert (late.given, early.given, late.feed) == (3, 3, None)


def test_what_all_have_been_given_is_what_the_last_one_has(stage: Stage) -> None:
    stage.speak(10, 10)
    assert stage.audience.given == 2, "without a host it is all"
    slow, quick = stage.attach(), stage.attach()
    stage.speak(400)  # clogged, both
    quick.drain(1000)
    stage.speak(10)
    assert (slow.given, quick.given, stage.audience.given) == (3, 4, 3)


def test_who_is_clogged_is_given_nothing_more_until_it_has_read(stage: Stage) -> None:
    reader = stage.attach()
    stage.speak(301)
    stage.speak(10)
    assert reader.numbers() == [1]
    reader.drain(1000)
    assert reader.numbers() == [1, 2]
    assert reader.feed is None
    stage.speak(10)
    assert reader.numbers() == [1, 2, 3], "once"


def test_from_the_journal_it_is_given_no_more_than_it_takes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert audience_module._CHUNK == 65536
    monkeypatch.setattr(audience_module, "_CHUNK", 100)
    stage.speak(*[50] * 20)
    reader = stage.attach()
    assert reader.clogged
    assert len(reader.waiting) < 300 + 200
    for _ in range(10):
        reader.drain(1000)
    assert reader.numbers() == list(range(1, 21))


def test_room_is_made_by_what_the_quickest_has_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 1)
    stage = Stage(tmp_path, limit=200)
    idle, quick = stage.attach(), stage.attach()
    assert stage.audience.has_room()
    stage.speak(50, 50, 50)
    assert not stage.audience.has_room(), "nobody has acknowledged anything"
    for reader in (idle, quick):
        reader.drain(1000)
    before = stage.room
    stage.audience.acknowledge(quick, 2)
    assert stage.room == before + 1
    assert quick.acknowledged == 2
    stage.audience.acknowledge(quick, 1)
    assert quick.acknowledged == 2, "nobody takes it back"
    stage.audience.acknowledge(idle, 99)
    assert idle.acknowledged == 3, "nor acknowledges what it was not given"


def test_what_was_acknowledged_is_let_go_when_room_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 1)
    stage = Stage(tmp_path, limit=200)
    reader = stage.attach()
    for _ in range(3):
        stage.speak(50)
    stage.audience.acknowledge(reader, 1)
    assert stage.ledger.journal.first == 1
    assert stage.audience.has_room()
    assert stage.ledger.journal.first == 2


def test_who_lags_behind_what_is_kept_is_let_go(stage: Stage) -> None:
    stage.speak(10)
    stage.speak(10)
    stage.speak(10)
    stage.ledger.journal.forget(1)
    just = stage.attach(1)
    assert (just.gone, just.numbers()) == (False, [2, 3])
    late = stage.attach(0)
    assert late.gone
    assert late.numbers() == []


def test_a_journal_that_lacks_what_it_should_have_lets_its_reader_go(stage: Stage, tmp_path: Path) -> None:
    stage.speak(10)
    stage.speak(10)
    path = max((tmp_path / "journal").glob("*.log"))
    path.write_bytes(b"garbage")
    reader = stage.attach(1)
    assert reader.gone
    assert "frame 2" in reader.why
    path.unlink()
    reader = stage.attach(1)
    assert reader.gone
    assert "cannot be read" in reader.why


def test_who_has_gone_is_asked_for_nothing(stage: Stage) -> None:
    reader = stage.attach()
    before = stage.room
    stage.audience.detach(reader)
    assert stage.room == before + 1
    stage.audience.detach(reader)
    assert (stage.room, stage.audience.clients) == (before + 1, [])
    stage.speak(10)
    assert reader.numbers() == []


@pytest.fixture
def no_room(stage: Stage, tmp_path: Path) -> Callable[[], None]:
    """No room for a journal, until it is called: a file is in its place."""
    (tmp_path / "journal").write_text("in the way")
    return (tmp_path / "journal").unlink


def test_without_room_and_hosts_it_waits(stage: Stage, no_room: Callable[[], None]) -> None:
    stage.speak(10)
    assert (stage.logged, stage.ledger.seq, stage.ledger.journal.last) == (["journal_waits"], 1, 0)
    assert not stage.audience.has_room()
    no_room()
    stage.audience.tell()
    assert stage.audience.has_room()
    assert stage.attach().numbers() == [1]


def test_without_room_who_keeps_up_loses_nothing(stage: Stage, no_room: Callable[[], None]) -> None:
    reader = stage.attach()
    stage.speak(10)
    stage.speak(10)
    assert reader.numbers() == [1, 2]
    assert stage.logged == ["journal_given_up"] * 2
    assert stage.ledger.journal.first == 3, "nothing is kept"


def test_without_room_who_lags_is_waited_for(stage: Stage, no_room: Callable[[], None]) -> None:
    slow, quick = stage.attach(), stage.attach()
    stage.speak(400)
    quick.drain(1000)
    stage.speak(10)
    assert stage.logged == ["journal_given_up", "journal_waits"]
    assert quick.numbers() == [1], "for the same frame would be given to nobody else"
    slow.drain(1000)
    assert (slow.numbers(), quick.numbers()) == ([1, 2], [1, 2])
