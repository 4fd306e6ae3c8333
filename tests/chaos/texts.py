"""Commands that two programs make alike of a name and a number, so that one knows what the other must hear."""

from __future__ import annotations

import uuid


def command(who: str, number: int) -> tuple[str, str, str]:
    """Id, prompt and answer."""
    turn_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{who}/{number}"))
    words = [f"{who}.{number}.{piece} " for piece in range(1 + number % 9)]
    said = "".join(f"[[say {word}]]" for word in words)
    return turn_id, f"[[pace 0.01]]{said} {turn_id}", "".join(words).strip()
