"""The chat bot of the how-to keeps its chats apart. covers: C2"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

HOW_TO = Path(__file__).parent.parent.parent / "docs" / "how-to" / "chat-bot.md"


def test_two_chats_never_share_a_conversation_or_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC_BRIDGE_HOME", str(tmp_path / "state"))
    program = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)[0]
    assert "/srv/chats" in program
    names: dict[str, Any] = {}
    exec(program.replace("/srv/chats", str(tmp_path / "chats")), names)
    chats = ["Ёлка", "Щука", "Bob", "bob", "b ob", "b/ob", "17", "-17", ""]
    records = [names["instance_for"](chat).record for chat in chats]
    assert len({record.name for record in records}) == len(chats)
    assert len({record.workspace for record in records}) == len(chats)
    assert names["instance_for"]("bob").record.name == "chat-bob"
