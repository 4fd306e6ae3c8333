"""The hosts that listen to a session, and how each gets every frame in order, whatever its pace.

Every frame is kept in the ledger before anybody gets it. A client that has all that came before gets it at
once; any other is fed from the journal as it reads, so that it costs neither memory nor the others' time.
"""

from typing import Callable, List, Tuple

from .client import Client
from .ledger import Ledger

_CHUNK = 65536


class Audience:
    """The clients of one session.

    Args:
        log: called with an event's name and its fields.
        on_room: called when there may be room again for what the session says.
    """

    def __init__(self, ledger: Ledger, log: Callable[..., None], on_room: Callable[[], None]) -> None:
        self.clients: List[Client] = []
        self._ledger = ledger
        self._log = log
        self._on_room = on_room

    @property
    def given(self) -> int:
        """Highest frame number sent to every client."""
        return min([client.given for client in self.clients], default=self._ledger.seq)

    def has_room(self) -> bool:
        """Whether what the session says next can be kept.

        Room is made by what the quickest reader has acknowledged. Clients that never read are ignored: a host
        that is connected and idle must not stop the others.
        """
        journal = self._ledger.journal
        if journal.full:
            read = max([client.acknowledged for client in self.clients], default=0)
            if self._ledger.hold_again(min(read, journal.last)):
                self.tell()
            journal.forget(read)
        return not journal.full and not self._ledger.waiting

    def attach(self, client: Client, after: int) -> None:
        """Give a client every frame after this number, and all that follow."""
        client.given = after
        self.clients.append(client)
        self.feed(client)

    def detach(self, client: Client) -> None:
        """A client has gone; harmless where it was never there."""
        if client in self.clients:
            self.clients.remove(client)
            self._on_room()

    def acknowledge(self, client: Client, seq: int) -> None:
        """A client will not ask for what is up to this number, should its connection break."""
        client.acknowledged = max(client.acknowledged, min(seq, client.given))
        self._on_room()

    def feed(self, client: Client) -> None:
        """Give a client from the journal what it lacks, as much as it takes now."""
        journal = self._ledger.journal
        if client.given + 1 < journal.first:
            client.close("lagging behind what is kept")
        while client.given < journal.last and not client.clogged and not client.gone:
            fresh = client.feed is None
            if client.feed is None:
                client.feed = journal.read(client.given)
            try:
                chunk = self._next_chunk(client)
            except OSError as error:
                client.close("the journal cannot be read: %s" % error)
                return
            if not chunk:
                client.feed = None  # it ended where the journal did when it was opened
                if fresh:
                    client.close("the journal lacks frame %d" % (client.given + 1))
            client.send(chunk)
        if client.given == journal.last:
            client.feed = None  # what comes next it gets at once, and not from there
        self.tell()

    def tell(self) -> None:
        """Keep what has been numbered, and give it to the clients."""
        self.give(*self.keep())

    def keep(self) -> Tuple[int, List[bytes]]:
        """Keep what has been numbered; the last number before it, and what is to be given to the clients now."""
        before = self._ledger.journal.last
        try:
            frames = self._ledger.keep()
        except OSError as error:
            if not self.clients or any(client.given < before or client.clogged for client in self.clients):
                # Until they have read: what everybody has need not be kept.
                self._log("journal_waits", reason=str(error))
                return before, []
            self._log("journal_given_up", reason=str(error))
            frames = self._ledger.give_up_keeping()
        return before, frames

    def give(self, before: int, frames: List[bytes]) -> None:
        """Give frames that are kept, and follow this number, to the clients that have all before them."""
        data = b"".join(frames)
        for client in list(self.clients):
            if client.given == before and not client.clogged:
                client.given += len(frames)
                client.send(data)
        self._on_room()

    def _next_chunk(self, client: Client) -> bytes:
        chunk, size = [], 0
        for seq, frame in client.feed or ():
            client.given = seq
            chunk.append(frame)
            size += len(frame)
            if size >= _CHUNK:
                break
        return b"".join(chunk)
