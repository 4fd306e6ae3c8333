"""The scripted model as a client of the Messages API sees it. covers: B8"""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import requests

from cc_bridge.testing import Delay, Fail, Reply, Say, ScriptedModel, Think, Tool


def ask(model: ScriptedModel, prompt: Any, *, stream: bool = True, timeout: float = 10) -> requests.Response:
    messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    body = {"model": "m", "stream": stream, "messages": messages}
    return requests.post(f"{model.url}/v1/messages?beta=true", json=body, stream=stream, timeout=timeout)


def events(response: requests.Response) -> list[dict[str, Any]]:
    with response:
        return [json.loads(line[6:]) for line in response.iter_lines() if line.startswith(b"data: ")]


def text(response: requests.Response) -> str:
    found = events(response)
    return "".join(event["delta"].get("text", "") for event in found if event["type"] == "content_block_delta")


def test_it_says_what_the_test_has_scripted(scripted_model: ScriptedModel) -> None:
    scripted_model.add(Reply([Say("one "), Delay(0.01), Say("two")]), Reply([Think("hm"), Say("three")]))
    assert text(ask(scripted_model, "a")) == "one two"
    kinds = [event["type"] for event in events(ask(scripted_model, "b"))]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("hello", "You said: hello"),
        ("[[say a b  c]]", "a b  c"),
        ("[[repeat 3 xy]]", "xyxyxy"),
        ("[[blob 100000]]", "0123456789abcdef" * 6250),
        ("[[say a]] ignored [[pace 0.001]] [[say b]]", "ab"),
        ("[[sya a]]", "(unknown directive 'sya')"),
    ],
)
def test_directives(scripted_model: ScriptedModel, prompt: str, answer: str) -> None:
    assert text(ask(scripted_model, prompt)) == answer


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
def test_errors(scripted_model: ScriptedModel, status: int) -> None:
    response = ask(scripted_model, f"[[error {status}]]")
    assert response.status_code == status
    assert response.json()["error"]["message"].startswith("scripted")


def test_errors_that_pass(scripted_model: ScriptedModel) -> None:
    prompt = "[[error 529 x2]] [[say at last]]"
    assert [ask(scripted_model, prompt).status_code for _ in range(2)] == [529, 529]
    assert text(ask(scripted_model, prompt)) == "at last"
    scripted_model.add(Reply([Fail(500, times=1), Say("fine")]))
    assert ask(scripted_model, "x").status_code == 500
    assert text(ask(scripted_model, "x")) == "fine"


def test_tools_take_two_rounds(scripted_model: ScriptedModel) -> None:
    scripted_model.add(Reply([Say("before"), Tool("Bash", {"command": "ls"}), Say("after")]))
    first = events(ask(scripted_model, "go"))
    assert [event["content_block"]["name"] for event in first if event.get("content_block", {}).get("name")] == ["Bash"]
    history = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
    ]
    assert text(ask(scripted_model, history)) == "after"


def test_a_hang_ends_with_the_model() -> None:
    with ScriptedModel() as model:
        response = ask(model, "[[say so far]] [[hang]]")
        lines = response.iter_lines()
        while b"so" not in next(lines):
            pass
    response.close()


def test_a_cut(scripted_model: ScriptedModel) -> None:
    with pytest.raises(requests.RequestException):
        text(ask(scripted_model, "[[say so far]] [[cut]]"))


def test_it_counts(scripted_model: ScriptedModel) -> None:
    for _ in range(2):
        text(ask(scripted_model, "hello"))
    assert scripted_model.prompts["hello"] == 2
    assert [request.prompt for request in scripted_model.requests] == ["hello", "hello"]


def test_answers_are_not_delayed_by_nagle(scripted_model: ScriptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, int]] = []
    original = socket.socket.setsockopt

    def record(self: socket.socket, *arguments: Any) -> None:
        seen.append(arguments)
        original(self, *arguments)

    monkeypatch.setattr(socket.socket, "setsockopt", record)
    text(ask(scripted_model, "hello"))
    assert seen.count((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)) >= 1


def test_other_paths(scripted_model: ScriptedModel) -> None:
    assert requests.get(f"{scripted_model.url}/v1/models", timeout=5).status_code == 404
    assert requests.head(scripted_model.url, timeout=5).status_code == 200
    counted = requests.post(f"{scripted_model.url}/v1/messages/count_tokens", json={"messages": []}, timeout=5)
    assert counted.json()["input_tokens"] > 0
    assert ask(scripted_model, "hello", stream=False).json()["content"][0]["text"] == "You said: hello"
