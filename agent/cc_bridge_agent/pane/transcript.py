"""Claude Code's own record of a session, read as it grows."""

import os
from typing import Any, Dict, Iterator

from .. import wire
from .http import decoded


class Transcript:
    """A session's file, which need not exist yet.

    Args:
        whole: read it from its beginning and not from where it ends now.
    """

    def __init__(self, path: str, *, whole: bool) -> None:
        self.path = path
        self._splitter = wire.LineSplitter()
        self._position = 0
        if not whole:
            try:
                self._position = os.stat(path).st_size
            except OSError:
                pass  # it begins with the first prompt

    def read(self) -> Iterator[Dict[str, Any]]:
        """The entries that were added since the last call."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._position)
                data = file.read()
        except OSError:
            return
        self._position += len(data)
        try:
            for line in self._splitter.feed(data):
                entry = decoded(line)
                if entry:
                    yield entry
        except wire.FrameError:  # a line that nobody has written on purpose
            self._splitter = wire.LineSplitter()
