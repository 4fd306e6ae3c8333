"""A small service with the HTTP contract of the page and a model that does what the prompt says. In memory, no fleet.

For what a real service does too rarely or too quickly for a test: answers that wait in the middle, permissions, hostile
texts, a server that is away. Run it with ``python -m tests.browser.fake PORT`` to look at the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
from fastapi import FastAPI, HTTPException, Request
from starlette.responses import JSONResponse, Response

from cc_bridge.service.page.routes import page_router
from tests.browser import texts

TOKEN = "ccb_test"


def now() -> str:
    return datetime.now(UTC).isoformat()


def problem(status: int, title: str, detail: str = "") -> JSONResponse:
    return JSONResponse({"type": "about:blank", "title": title, "status": status, "detail": detail}, status)


@dataclass
class Talk:
    """An instance."""

    name: str
    title: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    model: str = "claude-sonnet-4-5"
    mode: str = "default"
    running: str | None = None
    asleep: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: Any = None
    keys: dict[str, str] = field(default_factory=dict)
    created: str = field(default_factory=now)


class Fake:
    """The service."""

    def __init__(self) -> None:
        self.talks: dict[str, Talk] = {}
        self.permissions: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.watchers: set[asyncio.Queue[dict[str, Any]]] = set()
        self.files: dict[str, bytes] = {}
        self.numbers = itertools.count(1)
        self.gates: dict[str, asyncio.Event] = {}
        self.scopes = ["read", "command", "permissions", "manage"]
        self.posted: list[dict[str, Any]] = []
        self.stopping = anyio.Event()
        self.app = FastAPI()
        self.app.include_router(page_router(self))
        routes(self, self.app)
        for name in ("main", "other"):
            self.talks[name] = Talk(name, {"main": "Quarterly report", "other": "Fix the build"}[name])

    # PageSource

    def farewell(self, who: None) -> anyio.Event:
        return self.stopping

    async def check(self, request: Request, name: str | None) -> None:
        require(request)
        if name is not None and name not in self.talks:
            raise HTTPException(404)

    async def history(self, who: Any, name: str, before: int | None, limit: int) -> dict[str, Any]:
        talk = self.talks[name]
        said = list(itertools.takewhile(lambda one: not talk.running or one.get("turn") != talk.running, talk.said))
        end = before or len(said)
        begin = max(0, end - limit)
        return {"messages": said[begin:end], "running": talk.running, "before": begin or None}

    async def events(self, name: str, after: str | None) -> AsyncGenerator[dict[str, Any], None]:
        talk = self.talks[name]
        if after:
            at = int(after)
        elif talk.running:
            at = next((e["at"] for e in talk.events if e["turn"] == talk.running), len(talk.events) + 1) - 1
        else:
            at = len(talk.events)
        while True:
            while at < len(talk.events):
                at += 1
                yield talk.events[at - 1]
            talk.changed.clear()
            await talk.changed.wait()

    async def changes(self, who: Any) -> AsyncGenerator[dict[str, Any], None]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.watchers.discard(queue)

    # The model

    def tell(self, kind: str, /, **fields: Any) -> None:
        for queue in self.watchers:
            queue.put_nowait({"type": kind, **fields})

    def instance(self, talk: Talk) -> dict[str, Any]:
        asked = [p["id"] for p in self.permissions.values() if p["instance"] == talk.name]
        state = "permission" if asked else "busy" if talk.running else "asleep" if talk.asleep else "idle"
        waiting = sum(1 for t in talk.turns if t["state"] == "stored")
        return {
            "name": talk.name, "title": talk.title, "kind": "local", "project": "", "labels": {}, "state": state,
            "turn": talk.running, "waiting": waiting, "permissions": asked, "created": talk.created,
        }  # fmt: skip

    def change(self, talk: Talk) -> None:
        self.tell("instance", **self.instance(talk))

    def say(self, talk: Talk, turn: str, kind: str, /, **fields: Any) -> None:
        talk.events.append({"at": len(talk.events) + 1, "turn": turn, "type": kind, **fields})
        talk.changed.set()

    def accept(self, talk: Talk, prompt: Any, key: str) -> dict[str, Any]:
        if key and key in talk.keys:
            return next(t for t in talk.turns if t["id"] == talk.keys[key])
        turn = {
            "id": str(uuid.uuid4()), "instance": talk.name, "number": next(self.numbers), "state": "stored",
            "prompt": prompt, "created": now(), "result": None,
        }  # fmt: skip
        if key:
            talk.keys[key] = turn["id"]
        talk.turns.append(turn)
        self.posted.append(turn)
        if talk.task is None or talk.task.done():
            talk.task = asyncio.get_running_loop().create_task(self.work(talk))
        self.change(talk)
        return turn

    async def work(self, talk: Talk) -> None:
        while turn := next((t for t in talk.turns if t["state"] == "stored"), None):
            turn["state"], talk.running = "running", turn["id"]
            talk.stop.clear()
            self.change(talk)
            prompt = turn["prompt"] if isinstance(turn["prompt"], str) else turn["prompt"][0].get("text", "")
            talk.said.append({"kind": "prompt", "text": prompt, "turn": turn["id"], "time": now()})
            self.say(talk, turn["id"], "turn_started", session_id="s", model=talk.model)
            answering = asyncio.ensure_future(self.answer(talk, turn["id"], prompt))
            stopping = asyncio.ensure_future(talk.stop.wait())
            await asyncio.wait([answering, stopping], return_when=asyncio.FIRST_COMPLETED)
            verdict = "completed" if answering.done() else "interrupted"
            answering.cancel()
            stopping.cancel()
            for asked in [p["id"] for p in self.permissions.values() if p["turn"] == turn["id"]]:
                del self.permissions[asked]
            turn["state"] = "ended"
            turn["result"] = {"verdict": verdict, "ok": verdict == "completed", "error": "", "cost_usd": 0.0123,
                              "duration": 2.5, "usage": {"input_tokens": 1200, "output_tokens": 340}}  # fmt: skip
            talk.running = None
            text = "".join(e["text"] for e in talk.events if e["turn"] == turn["id"] and e["type"] == "text_delta")
            talk.said.append({"kind": "answer", "text": text})
            self.say(talk, turn["id"], "turn_result", text=text, **turn["result"])
            self.change(talk)

    async def answer(self, talk: Talk, turn: str, prompt: str) -> None:
        word, _, rest = prompt.partition(" ")
        match word:
            case "hostile" | "rich" | "code" | "table" | "prose":
                text = getattr(texts, word.upper())
                for begin in range(0, len(text), max(40, len(text) // 2000)):
                    self.say(talk, turn, "text_delta", text=text[begin : begin + max(40, len(text) // 2000)])
                    await asyncio.sleep(0.001)
            case "count":
                for number in range(int(rest or 5)):
                    self.say(talk, turn, "text_delta", text=f"word{number} ")
                    await asyncio.sleep(0.03)
            case "hold":
                self.say(talk, turn, "text_delta", text="The first half, ")
                gate = self.gates.setdefault(rest, asyncio.Event())
                await gate.wait()
                self.say(talk, turn, "text_delta", text="and the second half.")
            case "tools":
                await self.use_tools(talk, turn)
            case "permission":
                await self.ask(talk, turn, rest or "rm -rf build && make")
            case _:
                self.say(talk, turn, "text_delta", text=f"You said: {prompt}")

    async def use_tools(self, talk: Talk, turn: str) -> None:
        say = self.say
        say(talk, turn, "thinking_delta", text="The user wants the total. ", parent="")
        say(talk, turn, "thinking_delta", text="I look at the file first, then change it.", parent="")
        say(talk, turn, "text_delta", text="I will look at the file.")
        for use, name, given, result in texts.TOOLS:
            say(talk, turn, "tool_use", tool_use_id=use, name=name, input=given, parent="")
            talk.said.append({"kind": "tool", "text": name, "input": given})
            await asyncio.sleep(0.05)
            say(talk, turn, "tool_result", tool_use_id=use, content=result, is_error=use == "t4", parent="")
            talk.said.append({"kind": "result", "text": result, "is_error": use == "t4"})
        say(talk, turn, "text_delta", text="\n\nDone: the total is **42**.")

    async def ask(self, talk: Talk, turn: str, command: str) -> None:
        asked_id = uuid.uuid4().hex
        self.say(talk, turn, "tool_use", tool_use_id=asked_id, name="Bash", input={"command": command}, parent="")
        asked = {
            "id": asked_id, "instance": talk.name, "turn": turn, "tool": "Bash", "input": {"command": command},
            "suggested_rules": [f"Bash({command.split()[0]} *)"], "since": now(), "undecided": "", "attended": True,
        }  # fmt: skip
        self.permissions[asked_id] = asked
        self.answers[asked_id] = asyncio.get_running_loop().create_future()
        self.change(talk)
        answer = await self.answers[asked_id]
        self.change(talk)
        denied = answer["answer"] == "deny"
        result = f"Denied: {answer.get('reason', '')}" if denied else "done"
        self.say(talk, turn, "tool_result", tool_use_id=asked_id, content=result, is_error=denied, parent="")
        self.say(
            talk, turn, "text_delta", text=f"Answered with {answer['answer']} {answer.get('rule', '')}".strip() + "."
        )


def require(request: Request) -> None:
    if request.cookies.get("cc_bridge") != TOKEN:
        raise Unauthorized
    if request.method not in ("GET", "HEAD") and request.headers.get("x-cc-bridge") != "1":
        raise Unauthorized


class Unauthorized(Exception):
    pass


def routes(fake: Fake, app: FastAPI) -> None:
    talks = fake.talks

    @app.exception_handler(Unauthorized)
    async def unauthorized(request: Request, error: Exception) -> Response:
        return problem(401, "Sign in first")

    @app.exception_handler(KeyError)
    async def not_there(request: Request, error: Exception) -> Response:
        return problem(404, "It is not there")

    @app.post("/v1/session")
    async def sign_in(request: Request) -> Response:
        if (await request.json()).get("token") != TOKEN:
            return problem(401, "This token is not known")
        answer = Response(status_code=204)
        answer.set_cookie("cc_bridge", TOKEN, httponly=True, samesite="strict")
        return answer

    @app.delete("/v1/session")
    async def sign_out() -> Response:
        answer = Response(status_code=204)
        answer.delete_cookie("cc_bridge")
        return answer

    @app.get("/v1/session")
    async def who(request: Request) -> Any:
        require(request)
        return {"name": "laptop", "scopes": fake.scopes}

    @app.get("/v1/instances")
    async def instances(request: Request) -> Any:
        require(request)
        return {"instances": [fake.instance(talk) for talk in talks.values()]}

    @app.post("/v1/instances")
    async def make(request: Request) -> Any:
        require(request)
        body = await request.json()
        talks[body["name"]] = Talk(body["name"], body.get("title", ""))
        fake.change(talks[body["name"]])
        return JSONResponse(fake.instance(talks[body["name"]]), 201)

    @app.get("/v1/templates")
    async def templates(request: Request) -> Any:
        return {
            "templates": [
                {"name": "default", "kind": "docker", "spares": 0},
                {"name": "python", "kind": "docker", "spares": 1},
            ]
        }

    @app.get("/v1/instances/{name}")
    async def one(request: Request, name: str) -> Any:
        require(request)
        return fake.instance(talks[name]) if name in talks else problem(404, "There is no such instance")

    @app.patch("/v1/instances/{name}")
    async def rename(request: Request, name: str) -> Any:
        require(request)
        talks[name].title = (await request.json())["title"]
        fake.change(talks[name])
        return fake.instance(talks[name])

    @app.delete("/v1/instances/{name}")
    async def remove(request: Request, name: str) -> Any:
        require(request)
        del talks[name]
        fake.tell("removed", name=name)
        return Response(status_code=204)

    @app.post("/v1/instances/{name}/commands")
    async def command(request: Request, name: str) -> Any:
        require(request)
        turn = fake.accept(talks[name], (await request.json())["prompt"], request.headers.get("idempotency-key", ""))
        return JSONResponse(turn, 202)

    @app.post("/v1/instances/{name}/fork")
    async def fork(request: Request, name: str) -> Any:
        require(request)
        body = await request.json()
        made = talks[body["name"]] = Talk(body["name"], f"{talks[name].title} (fork)")
        made.said = list(talks[name].said)
        fake.change(made)
        return JSONResponse(fake.instance(made), 201)

    @app.post("/v1/instances/{name}/{verb}")
    async def verb(request: Request, name: str, verb: str) -> Any:
        require(request)
        if verb == "interrupt":
            talks[name].stop.set()
        talks[name].asleep = verb == "sleep"
        fake.change(talks[name])
        return Response(status_code=204)

    @app.get("/v1/instances/{name}/turns")
    async def turns(request: Request, name: str, limit: int = 50) -> Any:
        require(request)
        return {"turns": talks[name].turns[-limit:]}

    @app.get("/v1/instances/{name}/turns/{turn_id}")
    async def turn(request: Request, name: str, turn_id: str) -> Any:
        require(request)
        return next((t for t in talks[name].turns if t["id"] == turn_id), None) or problem(404, "No such turn")

    @app.put("/v1/instances/{name}/turns/{turn_id}")
    async def edit(request: Request, name: str, turn_id: str) -> Any:
        require(request)
        found = next(t for t in talks[name].turns if t["id"] == turn_id)
        if found["state"] != "stored":
            return problem(409, "It runs already")
        found["prompt"] = (await request.json())["prompt"]
        fake.change(talks[name])
        return found

    @app.delete("/v1/instances/{name}/turns/{turn_id}")
    async def withdraw(request: Request, name: str, turn_id: str) -> Any:
        require(request)
        found = next(t for t in talks[name].turns if t["id"] == turn_id)
        if found["state"] == "stored":
            talks[name].turns.remove(found)
        else:
            talks[name].stop.set()
        fake.change(talks[name])
        return Response(status_code=204)

    @app.get("/v1/permissions")
    async def permissions(request: Request) -> Any:
        require(request)
        return {"permissions": list(fake.permissions.values())}

    @app.post("/v1/permissions/{asked_id}")
    async def decide(request: Request, asked_id: str) -> Any:
        require(request)
        if asked_id not in fake.permissions:
            return problem(409, "Somebody was first")
        fake.permissions.pop(asked_id)
        answer = await request.json()
        fake.answers[asked_id].set_result(answer)
        return {"id": asked_id, "allowed": answer["answer"] != "deny"}

    @app.get("/v1/instances/{name}/commands-list")
    async def slash(request: Request, name: str) -> Any:
        require(request)
        return {"commands": [
            {"name": "compact", "description": "Replace the conversation by a summary", "builtin": True},
            {"name": "cost", "description": "What this session has cost"},
            {"name": "review", "description": "Review a pull request", "argument_hint": "<number>"},
        ]}  # fmt: skip

    @app.get("/v1/instances/{name}/model")
    async def model(request: Request, name: str) -> Any:
        return {"model": talks[name].model}

    @app.put("/v1/instances/{name}/model")
    async def set_model(request: Request, name: str) -> Any:
        require(request)
        talks[name].model = (await request.json())["model"]
        return {"model": talks[name].model}

    @app.get("/v1/instances/{name}/permission-mode")
    async def show_mode(request: Request, name: str) -> Any:
        return {"mode": talks[name].mode}

    @app.put("/v1/instances/{name}/permission-mode")
    async def mode(request: Request, name: str) -> Any:
        require(request)
        talks[name].mode = (await request.json())["mode"]
        return {"mode": talks[name].mode}

    @app.get("/v1/instances/{name}/context")
    async def context(request: Request, name: str) -> Any:
        return {"model": talks[name].model, "total_tokens": 42_000, "max_tokens": 200_000, "percentage": 21.0,
                "categories": [{"name": "Messages", "tokens": 30_000, "kind": "used"},
                               {"name": "System prompt", "tokens": 12_000, "kind": "used"}]}  # fmt: skip

    @app.get("/v1/instances/{name}/files")
    async def files(request: Request, name: str, path: str = "") -> Any:
        names = ["README.md", "src", *fake.files] if not path else [f"{path}/report.py"]
        kinds = {"src": "directory"}
        found = [{"name": n.split("/")[-1], "path": n, "kind": kinds.get(n, "file"), "size": 1} for n in names]
        return {"path": path, "entries": found, "truncated": False}

    @app.put("/v1/instances/{name}/files/content")
    async def upload(request: Request, name: str, path: str) -> Any:
        require(request)
        fake.files[path] = await request.body()
        return Response(status_code=204)

    @app.get("/v1/usage")
    async def usage(request: Request) -> Any:
        return {"usage": {"cost_usd": 0.42, "turns": 7, "tokens": 81_000}, "budgets": []}

    @app.post("/test/gate/{name}")
    async def gate(name: str) -> Any:
        fake.gates.setdefault(name, asyncio.Event()).set()
        return {}

    @app.post("/test/many/{name}/{number}")
    async def many(name: str, number: int) -> Any:
        for n in range(number):
            talks[name].said.append({"kind": "prompt", "text": f"Question {n}", "turn": f"old{n}", "time": now()})
            talks[name].said.append({"kind": "answer", "text": f"Answer {n}: **yes**, `x{n}`.\n\n- one\n- two"})
        return {}

    @app.get("/test/state")
    async def state() -> Any:
        return {"posted": fake.posted, "files": {name: len(content) for name, content in fake.files.items()}}


@contextlib.asynccontextmanager
async def served(port: int, fake: Fake | None = None) -> AsyncIterator[Any]:
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config((fake or Fake()).app, port=port, log_level="warning", timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve())
    try:
        yield server
    finally:
        server.should_exit = True
        await task


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(Fake().app, port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1)
