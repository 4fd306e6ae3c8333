"""The server's name out of the beginning of a TLS connection (RFC 8446, 4.1.2; RFC 6066, 3). No I/O.

Strict: what servers might read differently is no greeting. So the name that is found is the one the server sees.
"""

from __future__ import annotations

__all__ = ["Greeting", "NoGreeting"]

#: Bytes of a greeting and its records; nginx waits for 16 KiB (``preread_buffer_size``), a record has as much.
_LONGEST = 32 * 1024
_RECORD = 2**14
_RECORD_HEAD, _MESSAGE_HEAD = 5, 4
_HANDSHAKE, _CLIENT_HELLO, _SSL_3 = 22, 1, 3
_SERVER_NAME, _HOST_NAME = 0, 0
_ENCRYPTED_HELLO = 0xFE0D  # RFC 9849: another name is inside, which the server sees
_RANDOM = 32


class NoGreeting(Exception):
    """The connection begins with something else; the message says with what."""


class Greeting:
    """Takes a connection's first bytes, however they are cut, until they name the server.

    Attributes:
        raw: all bytes that were taken. They are to be passed on once the name is right.
    """

    def __init__(self) -> None:
        self.raw = bytearray()
        self._next = 0  # where in raw the next record begins
        self._message = bytearray()

    def receive(self, data: bytes) -> str | None:
        """The name in lower case, or None: more is needed. Call it no more after either end.

        Raises:
            NoGreeting: it is no ClientHello, has no name or several, or has more than 32 KiB.
        """
        self.raw += data
        while not self._is_complete():
            if not self._take_record():
                if len(self.raw) > _LONGEST:
                    raise NoGreeting("a TLS greeting of more than 32 KiB")
                return None
        return _server_name(bytes(self._message))

    def _is_complete(self) -> bool:
        if len(self._message) < _MESSAGE_HEAD:
            return False
        if self._message[0] != _CLIENT_HELLO:
            raise NoGreeting("TLS, but no greeting")
        length = _MESSAGE_HEAD + int.from_bytes(self._message[1:_MESSAGE_HEAD])
        if length > _LONGEST:
            raise NoGreeting("a TLS greeting of more than 32 KiB")
        if len(self._message) > length:
            raise NoGreeting("a TLS greeting with something behind it in its record")
        return len(self._message) == length

    def _take_record(self) -> bool:
        """Move the next record's content to the message, once it is all there."""
        head = self.raw[self._next : self._next + _RECORD_HEAD]
        if head[:1] not in (b"", bytes([_HANDSHAKE])) or head[1:2] not in (b"", bytes([_SSL_3])):
            raise NoGreeting("no TLS")
        if len(head) < _RECORD_HEAD:
            return False
        length = int.from_bytes(head[3:])
        if not 0 < length <= _RECORD:
            raise NoGreeting("a TLS record of a length that none has")
        start = self._next + _RECORD_HEAD
        if len(self.raw) < start + length:
            return False
        self._message += self.raw[start : start + length]
        self._next = start + length
        return True


class _Fields:
    """Reads fields one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next = data, 0

    def __bool__(self) -> bool:
        return self._next < len(self._data)

    def take(self, length: int) -> bytes:
        start, self._next = self._next, self._next + length
        if self._next > len(self._data):
            raise NoGreeting("a TLS greeting that is cut short within")
        return self._data[start : self._next]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def block(self, size: int) -> bytes:
        """What has its length before it, in so many bytes."""
        return self.take(self.number(size))

    def end(self) -> None:
        if self:
            raise NoGreeting("a TLS greeting with something behind its fields")


def _server_name(message: bytes) -> str:
    hello = _Fields(message[_MESSAGE_HEAD:])
    hello.take(2 + _RANDOM)
    for size in (1, 2, 1):  # session, ciphers, compression
        hello.block(size)
    extensions = _Fields(hello.block(2) if hello else b"")
    hello.end()
    found = []
    while extensions:
        kind, content = extensions.number(2), extensions.block(2)
        if kind == _ENCRYPTED_HELLO:
            raise NoGreeting("a TLS greeting with an encrypted one inside (ECH)")
        if kind == _SERVER_NAME:
            found.append(content)
    if len(found) != 1:
        raise NoGreeting("a TLS greeting that names no server" if not found else "a TLS greeting with two names")
    extension = _Fields(found[0])
    names = _Fields(extension.block(2))
    extension.end()
    kind, name = names.number(1), names.block(2)
    names.end()
    if kind != _HOST_NAME or not name.isascii():
        raise NoGreeting("a TLS greeting whose server's name is none")
    return name.decode("ascii").lower()
