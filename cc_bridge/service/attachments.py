"""Files as responses: always attachments of a neutral type, whatever is in them."""

from __future__ import annotations

from typing import IO
from urllib.parse import quote

import anyio
import anyio.to_thread
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

__all__ = ["Attachment"]

_CHUNK = 256 * 1024

_HEADERS = {
    "Content-Type": "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "no-store",
}


class Attachment(Response):
    """A file that is sent as it is read, at the client's pace, and closed at the end, or when the client goes away.

    Args:
        content: closed by this.
        size: bytes that are sent; more that has come since is not.
        name: under which a browser saves it.
    """

    def __init__(self, content: IO[bytes], size: int, name: str) -> None:
        disposition = f"attachment; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe='')}"
        headers = {**_HEADERS, "Content-Disposition": disposition, "Content-Length": str(size)}
        super().__init__(status_code=200, headers=headers)
        self._content = content
        self._left = size
        self._is_shorter = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it.

        Raises:
            OSError: it cannot be read, or has become shorter; the client sees that the body is not whole.
        """
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with anyio.create_task_group() as group:
                group.start_soon(_until_gone, receive, group.cancel_scope)
                await self._send(send)
                group.cancel_scope.cancel()
            if self._is_shorter:
                raise OSError("a file became shorter while it was sent")
            if not self._left:  # else the client has gone
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._content.close()

    async def _send(self, send: Send) -> None:
        while self._left:
            data = await anyio.to_thread.run_sync(self._content.read, min(_CHUNK, self._left))
            if not data:
                self._is_shorter = True
                return
            self._left -= len(data)
            message: Message = {"type": "http.response.body", "body": data, "more_body": True}
            await send(message)


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
