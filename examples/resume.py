"""An answer that outlives the program that asked for it.

    python examples/resume.py notes "Write a long report about this directory."

Kill it in the middle (`kill -9`) and start it again with the same words: the whole answer is printed, once. The
command runs once, too, because the id is made from its text: submitting it again joins the turn that runs, or ran.
"""

from __future__ import annotations

import sys
import uuid

import anyio

from cc_bridge import ClaudeInstance, LocalProcess, TextDelta, name_for


async def main(name: str, prompt: str) -> None:
    instance = LocalProcess(ClaudeInstance.of(name=name_for(name), kind="local", workspace="."))
    turn = await instance.submit(prompt, id=str(uuid.uuid5(uuid.NAMESPACE_URL, prompt)))
    async for event in turn:
        if isinstance(event, TextDelta):
            print(event.text, end="", flush=True)
    print()
    turn.raise_for_result()
    await instance.cleanup()  # the instance itself stays, for the next question: `cc-bridge rm` removes it


anyio.run(main, *sys.argv[1:])
