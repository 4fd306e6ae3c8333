"""A small Messages API on loopback, so that the real Claude Code can be tested and spends nothing.

The model is scripted in two ways:

* by the test, with :meth:`ScriptedModel.add`: replies are used up in order;
* by *directives* in the prompt, so that a command line or a bot needs no access to the model object: see
  :mod:`cc_bridge.testing.script`.

Example::

    with ScriptedModel() as model:
        model.add(Reply([Say("Hello, "), Say("world.")]))
        env = model.claude_env(home)
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .script import Blob, Cut, Delay, Fail, Hang, Pace, Reply, Say, Step, Think, Tool, parse_directives, words_of

__all__ = [
    "FAKE_KEY",
    "ScriptedModel",
    "seed_claude_home",
]

FAKE_KEY = "sk-ant-scripted-model-no-account-needed"
_LONGEST_WAIT = 600.0  # seconds; a hung answer ends by itself when a test forgets to close the model


@dataclass
class _Request:
    prompt: str
    tool_results: int
    body: dict[str, Any] = field(repr=False)


class ScriptedModel:
    """A Messages API server on a free loopback port, in threads of its own.

    Args:
        host: address to listen on; loopback unless a test runs in a network namespace of its own.
        port: 0 chooses a free one.

    Attributes:
        headers: more headers of each answer, such as those of a rate limit.
        keys: with which it was asked.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.closing = threading.Event()
        self.headers: dict[str, str] = {}
        self.keys: set[str] = set()
        self.requests: list[_Request] = []
        self.prompts: Counter[str] = Counter()
        self._replies: deque[Reply] = deque()
        self._by_prompt: dict[str, Reply] = {}
        self._lock = threading.Lock()
        self._server = _Server((host, port), _Handler)
        self._server.model = self
        self._thread = threading.Thread(target=self._server.serve_forever, name="scripted-model", daemon=True)

    @property
    def url(self) -> str:
        """The base URL to give to Claude Code as ``ANTHROPIC_BASE_URL``."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> ScriptedModel:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def add(self, *replies: Reply) -> None:
        """Queue replies; each is used for one user message that carries no directive of its own."""
        with self._lock:
            self._replies.extend(replies)

    def claude_env(self, home: str | Path | None = None) -> dict[str, str]:
        """Environment with which the real Claude Code talks to this model and to nothing else."""
        env = {
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": FAKE_KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        return env if home is None else {**env, "HOME": str(home)}

    def take(self, body: dict[str, Any]) -> tuple[_Request, Reply]:
        """Record a request and choose its reply. Called by the server's threads."""
        prompt, tool_results = _last_prompt(body)
        request = _Request(prompt, tool_results, body)
        with self._lock:
            self.requests.append(request)
            if tool_results == 0:
                self.prompts[prompt] += 1
            steps = parse_directives(prompt)
            # A retried or continued message is the same message: it must not use up a second reply.
            key = f"{_turn_index(body)}:{prompt}"
            if steps:
                reply = self._by_prompt.setdefault(key, Reply(steps))
            elif key in self._by_prompt:
                reply = self._by_prompt[key]
            elif self._replies:
                reply = self._by_prompt[key] = self._replies.popleft()
            else:
                reply = Reply([Say(word) for word in words_of(f"You said: {prompt}")])
        return request, reply

    def must_fail(self, reply: Reply) -> int | None:
        """The HTTP status with which this request fails, or None."""
        fail = next((step for step in reply.steps if isinstance(step, Fail)), None)
        if fail is None:
            return None
        with self._lock:
            reply.failures += 1
            return fail.status if not fail.times or reply.failures <= fail.times else None


def _last_prompt(body: dict[str, Any]) -> tuple[str, int]:
    """The last text that a user wrote, and how many tool results have come since."""
    results = 0
    for message in reversed(body.get("messages", [])):
        if message.get("role") != "user":
            continue
        prompt = _prompt_of(message["content"])
        if prompt is not None:
            return prompt, results
        results += any(block.get("type") == "tool_result" for block in message["content"])
    return "", results


def _prompt_of(content: Any) -> str | None:
    """What a user wrote; None: only tools, or Claude Code itself.

    Text after results is a prompt: of the turn after one that was interrupted at a tool.
    """
    if isinstance(content, str):
        return content
    blocks = [block for block in content if block.get("type") != "text" or not _is_reminder(block["text"])]
    for block in reversed(blocks):
        if block.get("type") == "tool_result":
            return None
        if block.get("type") == "text":
            return str(block["text"])
    return "" if blocks else None  # an image says nothing by itself


def _is_reminder(text: str) -> bool:
    """Claude Code has written it, and no user."""
    own = ("<system-reminder>", "The user sent a new message while you were working", "[Image: source: ")
    return text.lstrip().startswith(own)


def _turn_index(body: dict[str, Any]) -> int:
    return sum(
        message.get("role") == "user" and _prompt_of(message.get("content")) is not None
        for message in body.get("messages", [])
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    model: ScriptedModel

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in mid-answer is what interrupts look like from here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        # Without it every streamed event waits for the peer's delayed ACK: 40 ms an answer.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self._json(404, _error_body(404))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        authorization = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.model.keys.add(self.headers.get("X-Api-Key", authorization))
        if not self.path.startswith("/v1/messages"):
            self._json(404, _error_body(404))
            return
        body = json.loads(raw)
        if "count_tokens" in self.path:
            self._json(200, {"input_tokens": len(raw) // 4})
            return
        request, reply = self.server.model.take(body)
        status = self.server.model.must_fail(reply)
        if status is not None:
            self._json(status, _error_body(status))
        elif body.get("stream"):
            self._stream(body, reply.for_round(request.tool_results))
        else:
            self._json(200, _whole_message(body, reply.for_round(request.tool_results)))

    def _json(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any], steps: list[Step]) -> None:
        self.send_response(200)
        for name, value in self.server.model.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pace = 0.0
        for event in _events(body, steps):
            match event:
                case Pace(seconds):
                    pace = seconds
                case Delay(seconds):
                    self._wait(seconds)
                case Hang():
                    self._wait(_LONGEST_WAIT)
                    return
                case Cut():
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                case dict():
                    data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                    if pace and event["type"] == "content_block_delta":
                        self._wait(pace)
        self.wfile.write(b"0\r\n\r\n")

    def _wait(self, seconds: float) -> None:
        """Wait, but notice that the client has gone or that the model is being closed."""
        end = time.monotonic() + seconds
        self.connection.settimeout(None)
        while (left := end - time.monotonic()) > 0 and not self.server.model.closing.is_set():
            self.connection.settimeout(min(left, 0.2))
            try:
                if self.connection.recv(1, socket.MSG_PEEK) == b"":
                    raise ConnectionResetError("the client went away")
            except TimeoutError:
                continue
            finally:
                self.connection.settimeout(None)
            if self.server.model.closing.wait(left):  # a pipelined request: nothing more to learn from the socket
                return


def _error_body(status: int) -> dict[str, Any]:
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    kind = kinds.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": f"scripted {kind}"}}


def _message(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "scripted"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }


def _whole_message(body: dict[str, Any], steps: list[Step]) -> dict[str, Any]:
    text = "".join(step.text for step in steps if isinstance(step, Say))
    return {**_message(body), "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}


def _events(body: dict[str, Any], steps: list[Step]) -> Iterator[dict[str, Any] | Pace | Delay | Hang | Cut]:
    """The API's events for these steps, with waits and faults in their places."""
    yield {"type": "message_start", "message": _message(body)}
    index, open_block, words, stop = -1, "", 0, "end_turn"
    for step in steps:
        match step:
            case Say() | Blob() | Think():
                kind = "thinking" if isinstance(step, Think) else "text"
                if open_block != kind:
                    yield from _end_of(open_block, index)
                    index, open_block = index + 1, kind
                    yield {"type": "content_block_start", "index": index, "content_block": {"type": kind, kind: ""}}
                for text in _texts(step):
                    words += 1
                    yield {
                        "type": "content_block_delta",
                        "index": index,
                        "delta": {"type": f"{kind}_delta", kind: text},
                    }
            case Tool(name, arguments):
                yield from _end_of(open_block, index)
                index, open_block, stop = index + 1, "", "tool_use"
                yield from _tool_events(index, name, arguments)
            case Pace() | Delay() | Hang() | Cut():
                yield step
            case Fail():
                pass
    yield from _end_of(open_block, index)
    delta = {"stop_reason": stop, "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": words + 1}}
    yield {"type": "message_stop"}


def _end_of(open_block: str, index: int) -> list[dict[str, Any]]:
    return [{"type": "content_block_stop", "index": index}] if open_block else []


def _texts(step: Say | Blob | Think) -> Iterator[str]:
    if not isinstance(step, Blob):
        yield step.text
        return
    line = "0123456789abcdef" * 4096
    for start in range(0, step.size, len(line)):
        yield line[: min(len(line), step.size - start)]


def _tool_events(index: int, name: str, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    block = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:20]}", "name": name, "input": {}}
    yield {"type": "content_block_start", "index": index, "content_block": block}
    delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
    yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def seed_claude_home(home: Path) -> None:
    """Write what an interactive Claude Code asks about on its first start, so that it asks nothing."""
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "hasCompletedOnboarding": True,
        "theme": "dark",
        "customApiKeyResponses": {"approved": [FAKE_KEY[-20:]], "rejected": []},
    }
    (home / ".claude.json").write_text(json.dumps(settings))
