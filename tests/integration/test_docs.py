"""The documentation's snippets: Python is run, and the command line reads its own lines. covers: C2"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import CodeType
from typing import Any

import anyio
import pytest
import typer

from cc_bridge import ClaudeInstance
from cc_bridge.cli.app import app
from cc_bridge.testing import ScriptedModel

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Way:
    """How a snippet is run. Its code, and that around it, finds what ``names`` has.

    Attributes:
        docker: it needs an engine.
        replaced: what a test has not as it stands, such as a registry's image.
        before: the program around it.
        beside: what runs meanwhile; the snippet, which never ends, is cancelled afterwards.
        after: shows that the snippet has done what it says.
        why_not: why it is not run.
    """

    docker: bool = False
    replaced: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    beside: str = ""
    after: str = ""
    why_not: str = ""


LOCALLY = {"DockerContainer": "LocalProcess", 'kind="docker", image="cc-bridge"': 'kind="local"'}
IN_A_CONTAINER = {"ephemeral=True": 'ephemeral=True, network="host"'}  # the model is on this machine's loopback
INSTANCE = """
from cc_bridge import ClaudeInstance, LocalProcess
instance = LocalProcess(ClaudeInstance.of(name=unique, kind="local", workspace=".", ephemeral=True))
"""
REPLY = """
class reply:
    said = []
    async def append(text):
        reply.said.append(text)
"""

DESK_DECIDES = """
from cc_bridge import PermissionRequest
from cc_bridge import ClaudeInstance
for name in ("guest-ann", unique):
    registry.home(name).prepare()
    registry.home(name).save(ClaudeInstance.of(name=name, kind="local", workspace="."))
import anyio
async def scenario():
    request = PermissionRequest("r", "Bash", {"command": "ls"})
    assert await desk.decide("guest-ann", "t", request) == Deny("Guests may only ask.")
    with anyio.move_on_after(0.1):
        await desk.decide(unique, "t", request)
        raise AssertionError
anyio.run(scenario)
for name in ("guest-ann", unique):
    registry.home(name).remove()
"""
A_DESK = """
from cc_bridge import PermissionRequest, PermissionRules, Registry
from cc_bridge.fleet.desk import Desk
from cc_bridge.fleet.permission_paths import Place
from cc_bridge.fleet.rules import Rules
desk = Desk(Registry().root / "permissions", rules=lambda name: Rules(PermissionRules(), Place("/", "/", str)))
class chat:
    said, asked = [], []
    async def ask(id, text):
        chat.asked.append(id)
        chat.said.append(text)
    async def withdraw(id):
        chat.asked.remove(id)
    async def say(text):
        chat.said.append(text)
"""
PEOPLE_ANSWER = """
import anyio
async with anyio.create_task_group() as group:
    group.start_soon(show_requests, chat)
    await anyio.wait_all_tasks_blocked()
    group.start_soon(desk.decide, "demo", "t", PermissionRequest("r", "Bash", {"command": "ls"}))
    await anyio.wait_all_tasks_blocked()
    (id,) = chat.asked
    await on_button(chat, id, "once", "Ann")
    await on_button(chat, id, "no", "Bob")
    await anyio.wait_all_tasks_blocked()
    desk.close()
assert chat.asked == []
assert chat.said == ["demo: Bash {'command': 'ls'}?", "Ann was first: allow."]
"""
SPENT = """
from cc_bridge import Registry, TurnResult, Verdict
from cc_bridge.fleet.accounts import Accounts
usage = {"input_tokens": 10, "output_tokens": 3}
result = TurnResult(Verdict.COMPLETED, "", cost_usd=25.0, usage=usage)
Accounts(Registry().root / "accounts").note("shop-helper", "shop", "s", "t", result)
"""
FEED_IS_SERVED = """
from cc_bridge import ClaudeInstance
import anyio
async with Fleet() as fleet:
    await fleet.make(ClaudeInstance.of(name=unique, kind="local", workspace=".", ephemeral=True))
    said = []
    async def serve(after=None):
        async with aclosing(server_sent_events(fleet, unique, after)) as events:
            async for event in events:
                said.append(event)
                if "event: " in event:
                    break
    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await anyio.wait_all_tasks_blocked()
        await fleet.open(unique).send_command_and_wait("[[say one two]]", 60)
    live, said = said, []
    await serve(live[0].splitlines()[0].removeprefix("id: "))
    assert said == live[1:]
    said.clear()
    await serve("nojournal.1.0")
assert live[0].endswith("data: one\\n\\n") and "event: end" in live[-1], live
assert said == ["event: gone\\ndata: Load the conversation again.\\n\\n"]
"""

SWARM_TALKS = """async with SwarmService(record) as instance:
    async for piece in instance.send_command("What is here?"):
        print(piece, end="")
"""  # which tests/swarm does
SWARM_RECORD = 'assert printed() == "swarm 2147483648\\n"'

ASKS_THE_SHOP = '[[tool mcp__shop__stock {"article":"umbrella"}]] [[say There are 17.]]'
LOCAL_SHOP = {
    'name="shop"': "name=unique, ephemeral=True, env=claude_env",
    'kind="docker"': 'kind="local"',
    '"/srv/shop"': "workspace",
    "DockerContainer": "LocalProcess",
}
CONTAINER_SHOP = {
    'name="shop"': 'name=unique, ephemeral=True, image=images.claude, network="host", env=scripted_model.claude_env()',
    '"/srv/shop"': "workspace",
}

#: By page, in the order in which the snippets stand there; each in one or several ways.
WAYS: dict[str, list[list[Way]]] = {
    "README.md": [
        [
            Way(replaced=LOCALLY, after='assert "You said: What is in" in printed()'),
            Way(docker=True, replaced=IN_A_CONTAINER, after='assert "You said: What is in" in printed()'),
        ]
    ],
    "docs/tutorial.md": [
        [
            Way(replaced=LOCALLY, after='assert "\\ncompleted, $" in printed()'),
            Way(docker=True, replaced=IN_A_CONTAINER, after='assert "\\ncompleted, $" in printed()'),
        ]
    ],
    "docs/how-to/agent-sdk.md": [
        [
            Way(
                replaced={**LOCAL_SHOP, '"How many umbrellas do we have?"': f"'{ASKS_THE_SHOP}'"},
                after='await main()\nassert printed() == "There are 17.\\n", printed()',
            ),
            Way(
                docker=True,
                replaced={**CONTAINER_SHOP, '"How many umbrellas do we have?"': f"'{ASKS_THE_SHOP}'"},
                after='await main()\nassert printed() == "There are 17.\\n", printed()',
            ),
        ]
    ],
    "docs/how-to/chat-bot.md": [
        [
            Way(
                replaced={
                    **LOCALLY,
                    "/srv/chats": "chats",
                    "workspace=workspace": "workspace=workspace, ephemeral=True",
                },
                before=REPLY,
                after="""
await on_message("Bob", "[[say Hello, Bob.]]", reply)
await on_message("Bob", "[[error 400]]", reply)
for instance in instances.values():
    await instance.cleanup()
assert "".join(reply.said).startswith("Hello, Bob."), reply.said
assert reply.said[-1].startswith("\\n["), reply.said
""",
            )
        ]
    ],
    "docs/how-to/containers.md": [
        [
            Way(
                docker=True,
                replaced={
                    'image="python:3.13-slim", project="shop"': "image=images.bare, project=unique",
                    '["python", "-m", "pytest", "-q"]': '["echo", "2 passed"]',
                },
                after='assert printed() == "0 2 passed\\n\\n"',
            )
        ],
        [
            Way(
                docker=True,
                replaced={'["make", "all"]': '["sh", "-c", "exit 3"]'},
                before="from cc_bridge import ContainerOptions\noptions = ContainerOptions(images.bare, unique)",
                after='assert printed() == "3 False\\n"',
            )
        ],
        [
            Way(
                docker=True,
                replaced={
                    '"shop-net")': 'unique, "172.29.96.0/24")',
                    '["npm", "start"]': '["sleep", "3600"]',
                    'project="shop"': "image=images.bare, project=unique",
                    '"shop"': "unique",
                },
                after="""
assert int(printed()) > 0
async with ContainerManager() as manager:
    await manager.remove(container.name, volumes=True)
    await manager.networks.remove_unused(unique)
""",
            )
        ],
        [
            Way(
                docker=True,
                beside="""
from cc_bridge import ContainerOptions, run_command
options = ContainerOptions(images.bare, unique)
await run_command(["true"], options)
await run_command(["sh", "-c", "exit 5"], options)
await something_printed()
""",
                after='assert printed().endswith("5 False\\n")',
            )
        ],
        [
            Way(
                docker=True,
                replaced={'workspace=Path(".")': 'workspace=Path("."), project=unique, network="host"'},
                after='assert printed().endswith("result\\n")',
            )
        ],
    ],
    "docs/how-to/many-machines.md": [
        [Way(replaced={SWARM_TALKS: "print(SwarmService.kind, record.memory)"}, after=SWARM_RECORD)],
    ],
    "docs/how-to/many-conversations.md": [
        [
            Way(
                replaced={"/srv/chats": "chats", 'kind="docker", image="cc-bridge"': 'kind="local", ephemeral=True'},
                before=REPLY,
                after="""
async with make_fleet() as fleet:
    await on_message(fleet, "Bob", "[[say Hello, Bob.]]", reply)
    await on_message(fleet, "Bob", "[[error 400]]", reply)
    assert fleet.accounts.total(project="shop").turns >= 1
assert "".join(reply.said).startswith("Hello, Bob."), reply.said
assert reply.said[-1].startswith("["), reply.said
""",
            )
        ],
        [Way(after=FEED_IS_SERVED)],
    ],
    "docs/how-to/own-image.md": [[Way(after='assert record.container == "my-running-container"')]],
    "docs/how-to/permissions-for-many.md": [
        [Way(after='assert record.rules.deny == ("Bash(rm:*)", "Read(./.env)")')],
        [Way(after=DESK_DECIDES)],
        [Way(before=A_DESK, after=PEOPLE_ANSWER)],
    ],
    "docs/how-to/costs-and-budgets.md": [
        [Way(before=SPENT, after='assert printed().startswith("shop: 1 turns, 13 tokens, $25.00")')],
        [Way(before=SPENT, after='assert "budget of the project shop is spent: $25.00 of $20.00 today" in printed()')],
    ],
    "docs/reference/configuration.md": [
        [
            Way(
                before='import tempfile, pathlib\nplace = pathlib.Path(tempfile.mkdtemp()) / "c.toml"\n'
                'place.write_text("[fleet]\\nmost_awake = 2\\n")',
                replaced={'Path("cc-bridge.toml")': "Path(place)"},
                after='assert config.fleet_options()["most_awake"] == 2',
            )
        ]
    ],
    "docs/how-to/survive-restarts.md": [
        [
            Way(
                before=f'{INSTANCE}{REPLY}text, update_id = "[[say once]]", unique',
                after='await instance.cleanup()\nassert reply.said == ["once"]',
            )
        ],
        [
            Way(
                before=f"""{INSTANCE}
turn = await instance.submit("[[say found]]")
async for _ in turn:
    break
""",
                after='await instance.cleanup()\nassert result.text == "found"',
            )
        ],
    ],
    "docs/how-to/test-without-spending.md": [
        [Way(after="await test_my_bot_shows_the_answer(scripted_model, claude_env, workspace)")]
    ],
}


def name_of(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)


def python_snippets() -> Iterator[Any]:
    for page in PAGES:
        snippets = zip(blocks(page, "python"), WAYS.get(name_of(page), []), strict=False)
        for number, (snippet, ways) in enumerate(snippets, 1):
            for way in ways:
                marks = [pytest.mark.docker] if way.docker else []
                where = "docker" if way.docker else "here"
                yield pytest.param(snippet, way, id=f"{name_of(page)}-{number}-{where}", marks=marks)


def test_every_python_snippet_is_run_or_has_a_reason() -> None:
    shown = {name_of(page): len(found) for page in PAGES if (found := blocks(page, "python"))}
    assert {page: len(snippets) for page, snippets in WAYS.items()} == shown


class Output:
    """What a snippet prints."""

    def __init__(self) -> None:
        self.text = ""
        self._printed = anyio.Event()

    def print(self, *things: object, sep: str = " ", end: str = "\n", flush: bool = False) -> None:
        self.text += sep.join(map(str, things)) + end
        self._printed.set()

    async def something_printed(self) -> None:
        with anyio.fail_after(30):
            await self._printed.wait()


@pytest.mark.parametrize(("snippet", "way"), list(python_snippets()))
def test_a_python_snippet_runs(
    snippet: str,
    way: Way,
    request: pytest.FixtureRequest,
    claude: str,
    scripted_model: ScriptedModel,
    claude_env: dict[str, str],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if way.why_not:
        pytest.skip(way.why_not)
    monkeypatch.chdir(workspace)
    for key, value in claude_env.items():
        monkeypatch.setenv(key, value)
    for old, new in way.replaced.items():
        assert old in snippet, f"the page no longer has {old!r}"
        snippet = snippet.replace(old, new)
    output = Output()
    names = {
        "print": output.print,
        "printed": lambda: output.text,
        "something_printed": output.something_printed,
        "unique": f"test-{uuid.uuid4().hex[:8]}",
        "images": request.getfixturevalue("images") if way.docker else None,
        "scripted_model": scripted_model,
        "claude_env": claude_env,
        "workspace": workspace,
    }
    codes = [compiled(code) for code in (way.before, snippet, way.beside, way.after)]
    if any(is_async(code) for code in codes):
        anyio.run(run_async, codes, names)
    else:  # a program, which runs a loop of its own
        for code in codes:
            exec(code, names)


def compiled(code: str) -> CodeType:
    made = compile(code, "snippet", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(made, CodeType)
    return made


def is_async(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_COROUTINE)


async def run_async(codes: list[CodeType], names: dict[str, Any]) -> None:
    async def run(code: CodeType) -> None:
        if is_async(code):
            await eval(code, names)
        else:
            exec(code, names)

    before, snippet, beside, after = codes
    await run(before)
    if is_async(beside):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, snippet)
            await run(beside)
            tasks.cancel_scope.cancel()
    else:
        await run(snippet)
    await run(after)


def test_the_reference_has_every_field_of_a_record() -> None:
    table = (PROJECT / "docs" / "reference" / "python.md").read_text().partition("| field |")[2].partition("\n\n")[0]
    assert {item.name for item in fields(ClaudeInstance)} - {"created"} <= set(re.findall(r"`(\w+)`", table))


# The command line


def commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line of a shell, without redirections; ``xargs`` has given one word to what it runs."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not re.fullmatch(r"[|&;]+", word):
            words.append(word)
            continue
        words = words[: words.index(">")] if ">" in words else words
        if words[:2] == ["xargs", "-r"]:
            words = [*words[2:], "WORD"]
        if words:
            yield words
        words = []


def shell_lines() -> Iterator[Any]:
    for page in PAGES:
        if page.name == "requirements.md":
            continue  # it has what there shall be, too
        for block in blocks(page, "(?:console|sh|bash|shell)"):
            for line in re.findall(r"^ *\$ (.*)$", block, re.MULTILINE):
                yield pytest.param(line, id=f"{name_of(page)}: {line.split(' #')[0]}")
        for span in re.findall(r"(?<!`)`(cc-bridge [a-z][^`]*)`(?!`)", page.read_text()):
            yield pytest.param(span, id=f"{name_of(page)}: `{span}`")


@pytest.mark.parametrize("line", list(shell_lines()))
def test_a_line_of_a_shell_names_what_there_is(line: str) -> None:
    for words in commands(line):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (PROJECT / "Makefile").read_text(), re.MULTILINE), line
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (PROJECT / words[1]).exists(), line
        elif words[0] == "cc-bridge":
            parse(words[1:])


def parse(words: list[str]) -> None:
    """Have the words read by the command line, which then calls nothing.

    Raises: whatever they are refused with.
    """
    command: Any = typer.main.get_command(app)
    context = command.make_context("cc-bridge", words)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        if not rest and not hasattr(command, "resolve_command"):
            return  # a verb alone, as prose names it
        context = command.make_context(name, rest, parent=context)
