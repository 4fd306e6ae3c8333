"""A turn in the pane, and a command on its way to become one."""

from typing import Any, Dict, List, Optional, Set

from .text import essence


class Entry:
    """A command of the program's.

    Attributes:
        id: the turn's, as the host has given it.
        state: ``waiting`` here, ``entering`` the input line, ``entered``, ``queued`` by Claude Code, ``running``.
        key: what of its text is compared.
        dialogs: what the pane showed where the command has opened one.
    """

    def __init__(self, turn_id: str, text: str) -> None:
        self.id = turn_id
        self.text = text
        self.key = essence(text)
        self.state = "waiting"
        self.interrupted = False
        self.attempts = 0
        self.dialogs: List[str] = []

    @property
    def is_local(self) -> bool:
        """It may be a command that Claude Code answers itself."""
        return self.text[:1] == "/" and self.text[1:2].isalpha()


class PaneTurn:
    """What runs in the pane: an entry's turn, or a person's (``entry`` is None).

    Attributes:
        ids: Claude Code's, of the prompts that it answers: more than one where it has taken some together.
        prompted: a hook has told of its prompt; ``recorded``: the transcript has told that it began.
        shown: the tool uses that the host was told of, by id; ``pending``: those without a result.
        messages: ids of the API's messages that were passed on as they streamed.
        last_text: of the model's last message, as far as the host has it.
        stop: what the Stop hook said, where the end of the transcript is waited for.
        behind: what the transcript has yet to tell before lines of MessageDisplay may be passed on.
        early: texts that the transcript has told before any of their lines came; ``late``: messages all of which it
            has told, so that lines which still come are passed over.
        wake_at: when to look after the turn, and ``why``.
    """

    def __init__(self, ids: Set[str], prompt: str, entry: Optional[Entry], now: float) -> None:
        self.ids = ids
        self.prompt = prompt
        self.key = essence(prompt)
        self.entry = entry
        self.began = now
        self.prompted = False
        self.recorded = False
        self.shown: Dict[str, Dict[str, Any]] = {}
        self.pending: Set[str] = set()
        self.results: Set[str] = set()
        self.messages: Set[str] = set()
        self.exchanges = 0
        self.failures = 0
        self.status: Optional[int] = None
        self.usage: Dict[str, Any] = {}
        self.last_text = ""
        self.error = ""
        self.stop: Optional[Dict[str, Any]] = None
        self.failed = False
        self.over = False
        self.interrupting = False
        self.behind: Set[str] = set()
        self.early: List[str] = []
        self.late: Set[str] = set()
        self.wake_at: Optional[float] = None
        self.why = ""

    def wake(self, when: float, why: str) -> None:
        """Look after the turn at ``when``, and not before; takes the place of an earlier appointment."""
        self.wake_at, self.why = when, why


def last_user_message(body: Dict[str, Any]) -> "tuple[List[str], List[Dict[str, Any]]]":
    """Texts and tool results of the last message of a user in a request to the API."""
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
            known = [block for block in blocks if isinstance(block, dict)]
            texts = [block["text"] for block in known if isinstance(block.get("text"), str)]
            return texts, [block for block in known if block.get("type") == "tool_result"]
    return [], []
