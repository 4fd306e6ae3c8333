"""What happens in the pane, as the stream-json that ``claude -p`` would speak. Sans-I/O; ``now`` is in seconds.

Commands are entered one at a time, when nobody's turn runs. A turn begins when a hook says that its prompt was taken,
or, for what had to wait in Claude Code's own queue, when the transcript does; it ends by the Stop hook once all that it
said was passed on. Each message of the model's is told once: as it streams where the relay sees it, else as the
transcript has it, and the id that the API gave it tells which of the two.
"""

from collections import deque
from typing import Any, Callable, ClassVar, Deque, Dict, List, NamedTuple, Optional

from .host_output import HostOutput
from .text import between, essence, plain, texts_of
from .turn import Entry, PaneTurn, last_user_message

#: Seconds for the transcript to have what a hook has announced; it is written every 100 ms.
_BEHIND = 2.0

#: Seconds for a prompt to be taken once Enter was pressed; for a command of Claude Code's own to say something or to
#: open a dialog, before that is looked for the first time; and for an interrupt to be seen.
_TAKE_LIMIT = 3.0
_LOCAL_LIMIT = 1.0
_INTERRUPT_LIMIT = 1.5

#: Seconds for Claude Code to come up, and for a person's turn of which nothing is heard while a command waits.
_START_LIMIT = 60.0
_QUIET = 30.0

#: Seconds from a prompt's leaving Claude Code's queue to its turn's beginning, in the transcript.
_DEQUEUE = 0.3

#: How often Enter may have no effect.
_ATTEMPTS = 5

#: How often Escape is pressed to close a dialog that a command has opened.
_ESCAPES = 4


class Enter(NamedTuple):
    """Put this text into the input line and press Enter; ``replaceable`` may be overwritten there."""

    text: str
    replaceable: List[str]


class Look(NamedTuple):
    """Find out what stands in the input line; clear it where that is one of these."""

    replaceable: List[str]


class Withdraw(NamedTuple):
    """Do not press Enter for what is being entered."""


class Escape(NamedTuple):
    """Press Escape."""


class Translator:
    """One pane.

    Attributes:
        host: what the host is told.
        actions: what to do in the pane, in order; the caller takes them out.
    """

    def __init__(self, now: float) -> None:
        self.host = HostOutput()
        self.actions: List[NamedTuple] = []
        self._ready = False
        self._began = now
        self._waiting: Deque[Entry] = deque()
        self._entry: Optional[Entry] = None  # on its way through the input line, or running
        self._turn: Optional[PaneTurn] = None
        self._ended: Deque[str] = deque(maxlen=200)  # prompt ids
        self._queue: List[str] = []  # what a person has queued in Claude Code
        self._taken = 0  # of these, the transcript has yet to tell that they left it
        self._prompt_id = ""  # to which the transcript's next lines belong
        self._command = ""  # Claude Code's own, whose output the transcript's next lines have
        self._leftovers: List[str] = []  # texts of ours that may still stand in the input line
        self._wake_at: Optional[float] = None  # to look after the entry or the queue
        self._hold_until = 0.0  # a turn is about to begin

    # For the program

    @property
    def turn(self) -> Optional[PaneTurn]:
        """What runs."""
        return self._turn

    @property
    def next_timer(self) -> Optional[float]:
        """When :meth:`handle_timer` wants to be called, on the clock of ``now``; None: not at all."""
        times = [self._wake_at, self._turn.wake_at if self._turn else None]
        if not self._ready and self._waiting:
            times.append(self._began + _START_LIMIT)
        return min((when for when in times if when is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do what time has come for; nothing where it has not."""
        if not self._ready and self._waiting and now >= self._began + _START_LIMIT:
            self._fail_entry(self._waiting.popleft(), "Claude Code does not come up in the pane", now)
        if self._wake_at is not None and now >= self._wake_at:
            self._wake_at = None
            self._look_after_entry(now)
        turn = self._turn
        if turn is not None and turn.wake_at is not None and now >= turn.wake_at:
            turn.wake_at = None
            self._look_after_turn(turn, now)
        self.advance(now)

    # From the host

    def receive(self, message: Dict[str, Any], now: float) -> None:
        """A message of the host's."""
        kind = message.get("type")
        if kind == "user":
            texts = texts_of((message.get("message") or {}).get("content"))
            entry = Entry(str(message.get("uuid", "")), "\n".join(texts))
            self._waiting.append(entry)
            # From here on it can be interrupted, however long a person's turn makes it wait.
            self.host.tell({"type": "command_lifecycle", "command_uuid": entry.id, "state": "held"})
            if self._turn is not None and self._turn.entry is None:
                self.host.person(self._turn)
                self._turn.wake(self._turn.wake_at or now + _QUIET, self._turn.why or "quiet")
            self.advance(now)
        elif kind == "control_request":
            self._control(str(message.get("request_id")), (message.get("request") or {}).get("subtype"), now)
        elif kind == "control_response":
            self.host.decide(message.get("response") or {})

    def _control(self, request_id: str, subtype: Any, now: float) -> None:
        answer: Dict[str, Any] = {"subtype": "success", "request_id": request_id}
        if subtype != "interrupt":
            answer = {"subtype": "error", "request_id": request_id, "error": "not in a pane: %r" % subtype}
        self.host.tell({"type": "control_response", "response": answer})
        if subtype == "interrupt":
            self.interrupt(now)

    def interrupt(self, now: float) -> None:
        """End the program's turn, wherever it stands."""
        turn, entry = self._turn, self._entry
        if turn is not None and turn.entry is not None:
            turn.interrupting = True
            turn.wake(now + _INTERRUPT_LIMIT, "interrupt")
            self.actions.append(Escape())
        elif entry is not None:
            entry.interrupted = True  # if Enter was pressed, when it begins
            self.actions.append(Withdraw())
        elif self._waiting:
            self._end_entry(self._waiting.popleft(), now, interrupted=True, text="interrupted before it was entered")

    # From the input line

    def entered(self, now: float) -> None:
        """Enter was pressed."""
        if self._entry is not None and self._entry.state == "entering":
            self._entry.state = "entered"
            self._wake_at = now + _take_limit(self._entry)

    def withdrawn(self, now: float) -> None:
        """It was taken out of the line again."""
        if self._entry is not None:
            self._end_entry(self._entry, now, interrupted=True, text="interrupted before it was entered")

    def looked(self, draft: str, now: float) -> None:
        """What stood in the input line."""
        key, entry, turn = essence(draft), self._entry, self._turn
        self._leftovers = [text for text in self._leftovers if essence(text) != key]
        if turn is not None:
            if key and key == turn.key:  # put back: it was interrupted before its first token
                self._end(turn, now, interrupted=True)
            elif turn.interrupting:
                self.actions.append(Escape())
                turn.wake(now + _INTERRUPT_LIMIT, "interrupt")
        elif entry is not None and entry.state == "entered":
            if entry.dialogs:
                self._fail_entry(entry, "it opened a dialog. The pane showed:\n" + entry.dialogs[0], now)
            elif entry.interrupted:
                self._leftovers.append(entry.text)
                self._end_entry(entry, now, interrupted=True, text="interrupted before it was taken")
            elif key == entry.key:
                self._enter(entry, now)
            elif entry.attempts < _ATTEMPTS:
                entry.attempts += 1
                self._wake_at = now + _take_limit(entry)
            elif entry.is_local:
                self._end_entry(entry, now)  # it has done what it does, and has nothing to say
            else:
                self._fail_entry(entry, "Claude Code did not take the command", now)
        self.advance(now)

    def blocked(self, screen: str, now: float) -> None:
        """There is no input line; ``screen``: what the pane shows instead."""
        entry, turn = self._entry, self._turn
        if turn is not None:
            if turn.interrupting:
                self.actions.append(Escape())
                turn.wake(now + _INTERRUPT_LIMIT, "interrupt")
            return
        if entry is not None and entry.state == "entered":
            entry.dialogs.append(screen)
            if len(entry.dialogs) > _ESCAPES:
                self._fail_entry(entry, "it opened a dialog. The pane showed:\n" + entry.dialogs[0], now)
            else:  # closed, so that the pane is as it was
                self.actions += [Escape(), Look([])]
        elif entry is not None and entry.state == "entering":  # a person may have opened one, and will close it
            self._enter(entry, now, screen)

    # From the hooks

    def hook(self, event: str, payload: Dict[str, Any], key: str, now: float) -> None:
        """An event of Claude Code's; ``key`` of the process that told."""
        handler = self._HOOKS.get(event)
        if handler is not None:
            handler(self, payload, key, now)
        self.advance(now)

    def _on_session_start(self, payload: Dict[str, Any], key: str, now: float) -> None:
        self.host.session_id = str(payload.get("session_id") or self.host.session_id)
        self.host.model = str(payload.get("model") or self.host.model)
        if not self._ready:
            self._ready = True
            self.host.tell({"type": "system", "subtype": "status", "status": "ready"})
        if payload.get("source") == "clear" and self._entry is not None and self._entry.is_local:
            self._end_entry(self._entry, now)

    def _on_prompt(self, payload: Dict[str, Any], key: str, now: float) -> None:
        prompt, prompt_id = str(payload.get("prompt", "")), str(payload.get("prompt_id", ""))
        entry, turn = self._entry, self._turn
        if turn is not None and not turn.prompted and turn.key == essence(prompt) and turn.ids <= {prompt_id}:
            turn.ids.add(prompt_id)  # the transcript or its request was quicker
            turn.prompted = True
            return
        if turn is not None and (not turn.ids or (turn.recorded and not turn.last_text and turn.stop is None)):
            turn.ids.add(prompt_id)  # it began out of the queue, perhaps with others, and this waits for it
        is_own = entry is not None and entry.state in ("entering", "entered") and essence(prompt) == entry.key
        # A prompt that has to wait, be it only for the last turn's Stop hooks, comes with that turn's id.
        queued = prompt_id in self._ended or (turn is not None and prompt_id in turn.ids)
        leaving = self._queue or self._queued_entry or now < self._hold_until
        if not queued and leaving and (turn is None or turn.stop is not None):
            self._take_queue({prompt_id}, now)  # that runs, and this waits for it
            queued = True
        if queued:
            if entry is not None and is_own:
                entry.state, self._wake_at = "queued", None
            else:
                self._queue.append(prompt)
                self._wake_at = self._wake_at or now + _BEHIND
            return
        if turn is not None:  # nobody has told its end, or the transcript has yet to
            self._end(turn, now, interrupted=turn.stop is None)
        self._begin({prompt_id}, prompt, entry if is_own else None, now).prompted = True

    def _on_stop(self, payload: Dict[str, Any], key: str, now: float) -> None:
        self._stopped(payload, now, failed=False)

    def _on_stop_failure(self, payload: Dict[str, Any], key: str, now: float) -> None:
        self._stopped(payload, now, failed=True)

    def _stopped(self, payload: Dict[str, Any], now: float, *, failed: bool) -> None:
        prompt_id, turn = str(payload.get("prompt_id", "")), self._turn
        if prompt_id in self._ended:
            return
        if turn is not None and turn.stop is not None and prompt_id not in turn.ids:
            self._end(turn, now)  # two ends within the time that the transcript takes
            turn = self._turn
        if turn is None:
            turn = self._take_queue({prompt_id}, now)
        turn.ids.add(prompt_id)
        turn.stop, turn.failed = payload, failed
        said = str(payload.get("last_assistant_message") or "").strip()
        told = turn.entry is None or (turn.exchanges and turn.last_text.strip().endswith(said))
        if failed or (told and self._queued_entry is None):
            self._end(turn, now)
        else:
            turn.wake(now + _BEHIND, "stop")

    def _take_queue(self, ids: "set[str]", now: float) -> PaneTurn:
        """What waited in Claude Code's queue runs, all of it together; the transcript has yet to tell."""
        if self._turn is not None:
            self._end(self._turn, now)
        turn = self._turn = PaneTurn(ids, "", None, now)
        turn.recorded = True
        self._hold_until = 0.0
        self._taken = len(self._queue)
        self._queue.clear()
        if self._queued_entry is not None:
            self._taken += 1
            self._own(turn, self._queued_entry)
        return turn

    def _on_permission(self, payload: Dict[str, Any], key: str, now: float) -> None:
        turn = self._turn
        if turn is None or turn.entry is None or turn.interrupting:
            self.host.leave_to_dialog(key)  # a person's own, or nobody's any more
        else:
            self.host.ask(key, payload, len(turn.shown))

    def _on_tool(self, payload: Dict[str, Any], key: str, now: float) -> None:
        if self._turn is not None:
            self._turn.behind.add(str(payload.get("tool_use_id")))

    def _on_lines(self, payload: Dict[str, Any], key: str, now: float) -> None:
        """Finished lines of a message, where the relay does not see it. In order: the caller sees to that."""
        turn = self._turn
        if turn is None or turn.entry is None or turn.exchanges or payload.get("prompt_id") not in turn.ids:
            return
        message, text = "lines " + str(payload.get("message_id")), str(payload.get("delta", ""))
        if turn.behind - {message}:
            return  # the transcript has yet to tell what came before: it will tell this, too
        if message not in turn.behind and _is_told(turn, message, text):
            return
        if message not in turn.behind:
            turn.behind.add(message)
            self.host.stream({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        delta = {"type": "text_delta", "text": text}
        self.host.stream({"type": "content_block_delta", "index": 0, "delta": delta})

    _HOOKS: ClassVar[Dict[str, Callable[..., None]]] = {
        "SessionStart": _on_session_start,
        "UserPromptSubmit": _on_prompt,
        "Stop": _on_stop,
        "StopFailure": _on_stop_failure,
        "PermissionRequest": _on_permission,
        "PreToolUse": _on_tool,
        "MessageDisplay": _on_lines,
    }

    # From the transcript

    def transcript(self, line: Dict[str, Any], now: float) -> None:
        """An entry of the session's file."""
        kind = line.get("type")
        self.host.version = str(line.get("version") or self.host.version)
        if line.get("isSidechain"):
            return
        if kind == "queue-operation":
            self._on_queue(line, now)
        elif kind == "user":
            self._on_user_line(line, now)
        elif kind == "assistant":
            self._on_assistant_line(line)
        elif kind == "system":
            self._on_system_line(line, now)

    @property
    def _queued_entry(self) -> Optional[Entry]:
        return self._entry if self._entry is not None and self._entry.state == "queued" else None

    def _on_queue(self, line: Dict[str, Any], now: float) -> None:
        operation, entry = line.get("operation"), self._queued_entry
        key = essence(str(line.get("content", "")))
        if operation == "dequeue":
            if self._taken:
                self._taken -= 1
            elif self._queue:
                self._queue.pop(0)
            if self._turn is None:
                self._hold_until = self._wake_at = now + _DEQUEUE  # it begins now
        elif operation == "remove":
            if entry is not None and key == entry.key:
                if line.get("reason") == "absorbed_mid_turn" and self._turn is not None:
                    self._own(self._turn, entry)  # what a person's turn says from here on answers it as well
                else:
                    self._end_entry(entry, now, interrupted=True, text="taken back in the pane")
            else:
                self._queue = [text for text in self._queue if essence(text) != key]
        elif operation == "popAll":
            self._queue.clear()
            if entry is not None:
                self._end_entry(entry, now, interrupted=True, text="taken back in the pane")

    def _on_user_line(self, line: Dict[str, Any], now: float) -> None:
        content = (line.get("message") or {}).get("content")
        self._prompt_id = prompt_id = str(line.get("promptId") or self._prompt_id)
        turn = self._turn
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        results = [block for block in blocks if block.get("type") == "tool_result"]
        if results:
            if turn is not None and prompt_id in turn.ids:
                self.host.results(turn, results)
            return
        text = "\n".join(texts_of(content))
        self._command = between(text, "command-name") or self._command
        if text.startswith("[Request interrupted by user"):
            if turn is not None and (prompt_id in turn.ids or not turn.ids):
                self._end(turn, now, interrupted=True)
            return
        if line.get("isMeta") or line.get("isCompactSummary") or not line.get("promptId") or _is_local(text):
            return
        if prompt_id in self._ended:
            if turn is not None and turn.recorded:  # taken together with one whose end was told before this
                turn.ids.add(prompt_id)
                turn.stop = turn.stop or {}
            return
        self._on_prompt_line(prompt_id, text, now)

    def _on_prompt_line(self, prompt_id: str, text: str, now: float) -> None:
        """A prompt that was taken: of a turn that begins now, or of the one that runs."""
        turn = self._turn
        entry = self._queued_entry or (self._entry if self._entry and self._entry.state == "entered" else None)
        is_own = entry is not None and entry.key == essence(text)
        if turn is None:
            direct = is_own and entry is not None and entry.state == "entered"  # and the hook is late
            self._begin({prompt_id}, text, entry if is_own else None, now).recorded = not direct
        else:
            turn.ids.add(prompt_id)  # taken together with what runs
            if not turn.prompt:
                turn.prompt, turn.key = text, essence(text)
            if is_own and entry is not None and turn.entry is None:
                self._own(turn, entry)

    def _on_assistant_line(self, line: Dict[str, Any]) -> None:
        turn, message = self._turn, (line.get("message") or {})
        if turn is None or self._prompt_id not in turn.ids:
            return
        text = "".join(texts_of(message.get("content")))
        if line.get("isApiErrorMessage"):
            turn.error = text
            return
        if text:
            begun = {item for item in turn.behind if item.startswith("lines ")}
            turn.behind -= begun
            turn.late |= begun
            turn.early += [] if begun or turn.exchanges else [text]
        if turn.entry is None or str(message.get("id")) in turn.messages:
            return
        for block in message.get("content") or []:
            if isinstance(block, dict) and block.get("type") == "tool_use":
                self.host.tool(turn, block)
            else:
                self.host.blocks([block])
        turn.last_text = text or turn.last_text

    def _on_system_line(self, line: Dict[str, Any], now: float) -> None:
        subtype, turn, entry = line.get("subtype"), self._turn, self._entry
        content = str(line.get("content", ""))
        self._command = between(content, "command-name") or self._command
        if subtype in ("stop_hook_summary", "turn_duration") and turn is not None and self._prompt_id in turn.ids:
            if turn.stop is not None:
                self._end(turn, now)
            else:
                turn.wake(now + _BEHIND, "stop")
        elif entry is not None and entry.is_local and entry.state in ("entering", "entered"):
            # Its own, and not the last one's, whose record may come late.
            word = entry.text.split()[0]
            if "<local-command-stdout>" in content and self._command == word:
                self._end_entry(entry, now, text=plain(between(content, "local-command-stdout")).strip())
            elif subtype == "informational" and word in content:
                self._end_entry(entry, now, text=plain(content))

    # From the relay

    def exchange_begun(self, body: Dict[str, Any], now: float) -> Optional[PaneTurn]:
        """A request to the API; the turn that it is of, as far as that can be told."""
        texts, results = last_user_message(body)
        turn, entry = self._turn, self._entry
        keys = [essence(text) for text in texts]
        if turn is None or turn.entry is None:
            if entry is None or entry.state not in ("entered", "queued") or entry.key not in keys:
                return turn if turn is not None and turn.key in keys else None
            if turn is not None and turn.stop is not None:
                self._end(turn, now)  # a person's, whose end the transcript has yet to tell
                turn = None
            if turn is None:
                turn = self._begin(set(), entry.text, entry, now)
            else:
                self._own(turn, entry)
        elif turn.key in keys:
            pass  # beside results, where the turn before was interrupted at a tool
        elif any(block.get("tool_use_id") in turn.shown for block in results):
            self.host.results(turn, results)
        else:
            return None  # a subagent's, or one of Claude Code's own
        turn.exchanges += 1
        if turn.why == "aborted":
            turn.wake_at, turn.why = None, ""  # asked again
        return turn

    def exchange_aborted(self, turn: PaneTurn, now: float) -> None:
        """Claude Code has closed the connection in mid-answer: interrupted, unless it asks again at once."""
        if turn is self._turn and turn.stop is None:
            turn.wake(now + 0.4, "aborted")

    # Turns

    def _begin(self, ids: "set[str]", prompt: str, entry: Optional[Entry], now: float) -> PaneTurn:
        turn = self._turn = PaneTurn(ids, prompt, None, now)
        self._hold_until = 0.0
        if entry is not None:
            self._own(turn, entry)
            if entry.interrupted:
                self.interrupt(now)
        elif self._waiting or self._entry:
            self.host.person(turn)
            turn.wake(now + _QUIET, "quiet")
        return turn

    def _own(self, turn: PaneTurn, entry: Entry) -> None:
        """The turn answers this entry."""
        turn.entry, entry.state, self._wake_at = entry, "running", None
        if turn.why == "quiet":
            turn.wake_at = None
        self.host.begin(entry)

    def _end(self, turn: PaneTurn, now: float, *, interrupted: bool = False) -> None:
        self._turn, turn.over = None, True
        self._ended.extend(turn.ids)
        self.host.forget_permissions()
        if interrupted and turn.entry is not None:
            self._leftovers.append(turn.prompt)  # it may be back in the input line
        if self._queue:
            self._wake_at = now + _BEHIND
        elif self._entry is not None and self._entry.state == "entered":
            self._wake_at = now + _take_limit(self._entry)  # another prompt was quicker: this one may stand there still
        entry, stop = turn.entry, turn.stop or {}
        if entry is not None:
            said = str(stop.get("last_assistant_message") or "")
            if said and not turn.failed and not turn.last_text.strip().endswith(said.strip()):
                self.host.blocks([{"type": "text", "text": said}])
            self._end_entry(
                entry,
                now,
                interrupted=interrupted,
                text=(turn.error or said or "the API failed") if turn.failed else said or turn.last_text,
                failed=turn.failed,
                turn=turn,
            )
        self.advance(now)

    def _end_entry(
        self,
        entry: Entry,
        now: float,
        *,
        text: str = "",
        interrupted: bool = False,
        failed: bool = False,
        turn: Optional[PaneTurn] = None,
    ) -> None:
        """The entry's result. The entry is not looked after any more."""
        if entry is self._entry:
            self._entry, self._wake_at = None, None
        if entry in self._waiting:
            self._waiting.remove(entry)
        seconds = now - turn.began if turn is not None else 0.0
        self.host.result(entry, text, interrupted=interrupted, failed=failed, turn=turn, seconds=seconds)

    def _fail_entry(self, entry: Entry, why: str, now: float) -> None:
        self._leftovers.append(entry.text)
        self._end_entry(entry, now, text=why, failed=True)

    def advance(self, now: float) -> None:
        """Enter the next command, if nothing stands against it."""
        free = self._turn is None and self._entry is None and not self._queue and now >= self._hold_until
        if free and self._ready and self._waiting:
            self._entry = self._waiting.popleft()
            self._enter(self._entry, now)

    def _enter(self, entry: Entry, now: float, screen: str = "") -> None:
        entry.state = "entering"
        entry.attempts += 1
        if entry.attempts <= _ATTEMPTS:
            self.actions.append(Enter(entry.text, list(self._leftovers)))
        elif screen:
            self._fail_entry(entry, "the pane takes no input. It shows:\n" + screen, now)
        else:
            self._fail_entry(entry, "Claude Code did not take the command", now)

    def _look_after_entry(self, now: float) -> None:
        entry = self._entry
        if self._queue and self._turn is None:
            self._queue.clear()  # what was queued did not come: it was taken back
        if entry is not None and entry.state == "entered":
            if entry.text.strip() == "/compact" and entry.attempts < 100:
                entry.attempts += 1  # it works for minutes, and then says so
                self._wake_at = now + _TAKE_LIMIT
            else:
                self.actions.append(Look([]))

    def _look_after_turn(self, turn: PaneTurn, now: float) -> None:
        if turn.why == "stop":
            turn.stop = turn.stop or {}
            self._end(turn, now)
        elif turn.why == "quiet":
            turn.wake(now + _QUIET, "quiet")
            self.actions.append(Look([]))
        else:  # interrupted, as it seems: a prompt that nothing was said to is back in the input line
            turn.wake(now + 5 * _INTERRUPT_LIMIT, "interrupt" if turn.interrupting else "aborted")
            self.actions.append(Look([turn.prompt] if turn.entry is not None else []))


def _is_told(turn: PaneTurn, message: str, line: str) -> bool:
    """The transcript was quicker, and has told all of the message whose line this is; their ids differ."""
    if message not in turn.late:
        text = next((text for text in turn.early if essence(text).startswith(essence(line))), None)
        if text is None:
            return False
        turn.early.remove(text)
        turn.late.add(message)
    return True


def _take_limit(entry: Entry) -> float:
    """Seconds: more for what is long, and for each attempt, because a machine that was too busy may still be."""
    least = _LOCAL_LIMIT if entry.is_local else _TAKE_LIMIT
    return (least + len(entry.text) / 200_000) * 1.5 ** (entry.attempts - 1)


def _is_local(text: str) -> bool:
    return text.startswith(("<local-command-", "<command-name>", "<bash-stdout>"))
