"""A real conversation with the real Claude Code, as `make demo` shows it.

In a container if a Docker engine answers, else in a process of this machine; with your key if one is set, else
with a scripted model on loopback, which costs nothing.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import anyio

from cc_bridge import ClaudeInstance, DockerContainer, InstanceInterface, LocalProcess
from cc_bridge.engine.client import Engine
from cc_bridge.engine.progress import Step
from cc_bridge.errors import BridgeError, EngineError
from cc_bridge.testing import Pace, Reply, Say, ScriptedModel

LOGINS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")

PROMPTS = ("Introduce yourself in two sentences.", "And once more, now that you are warm?")
WORDS = (
    "I am the real Claude Code, and these words came to me from a scripted model on loopback. "
    "They reach you one by one, as framed lines over a named pipe."
)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def engine_answers() -> bool:
    engine = Engine()
    try:
        await engine.client()
    except EngineError as error:
        say(f"docker    no: {error.what}")
        return False
    await engine.aclose()
    return True


async def converse(instance: InstanceInterface) -> None:
    began = time.monotonic()
    async with instance:
        say(f"started   in {time.monotonic() - began:.2f} s")
        for prompt in PROMPTS:
            began, first = time.monotonic(), 0.0
            say(f"\nyou       {prompt}\n")
            async for piece in instance.send_command(prompt):
                first = first or time.monotonic() - began
                print(piece, end="", flush=True)
            print()
            say(f"\ntiming    first token after {first * 1000:.0f} ms")
        info = await instance.get_info()
        way = {"pipes": "named pipes", "exec": "docker exec", "direct": "docker exec, directly"}[info["channel"]]
        say(f"way       {way}; session {info['session_id']}")
    say("cleaned   nothing is left behind")


def show_step(step: Step) -> None:
    if not step.passing:
        say(f"          {str(step)[:100]}")


async def main() -> int:
    with ExitStack() as resources:
        workspace = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="cc-bridge-demo-")))
        workspace.chmod(0o777)
        if any(os.environ.get(name) for name in LOGINS):
            say("model     the real one, with your key")
            env, network = {}, "bridge"
        else:
            model = resources.enter_context(ScriptedModel())
            say("model     scripted, on loopback (no key is set, and nothing is spent)")
            steps = [Pace(0.03), *(Say(word) for word in re.findall(r"\S+\s*", WORDS))]
            model.add(*(Reply(steps) for _ in PROMPTS))
            env, network = model.claude_env(), "host"
        fields = {"name": f"demo-{os.getpid()}", "workspace": workspace, "ephemeral": True}
        instance: InstanceInterface
        if await engine_answers():
            say("where     a Docker container (its image is built first, if this is the first time)")
            record = ClaudeInstance.of(kind="docker", image="cc-bridge", network=network, env=env, **fields)
            instance = DockerContainer(
                record, on_progress=lambda step: step.passing or say(f"          {str(step)[:100]}")
            )
        else:
            say("where     a process of this machine: the same agent and the same pipes, no container")
            home = workspace / "home"
            home.mkdir()
            env = {**env, "HOME": str(home)} if env else env
            record = ClaudeInstance.of(kind="local", env=env, **fields)
            instance = LocalProcess(record)
        await converse(instance)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(anyio.run(main))
    except BridgeError as error:
        say(f"\nfailed    {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
