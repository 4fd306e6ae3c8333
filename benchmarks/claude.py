"""`cc-bridge claude` beside the program that it stands for: from the start to the first byte through."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cc_bridge import ClaudeInstance, ClaudeOptions, DockerContainer, InstanceInterface, LocalProcess

from .figures import Sheet
from .stage import default_image, milli

TITLE = "a program in Claude Code's place: what it costs until the first byte is through"
ROUNDS = 40

#: Milliseconds that it may cost over the program that it stands for.
MOST = 60

#: In Claude Code's place.
STUB = "#!/bin/sh\necho x\n"


async def run(sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch, "work")
        work.mkdir()
        stub = work / "stub"
        stub.write_text(STUB)
        for path in (work, stub):
            path.chmod(0o777)
        Path(scratch).chmod(0o755)
        # Compiled, as an installed program is, also where this shell keeps Python from writing it down.
        env = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(scratch, "compiled"))}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        local = _record("local", work, claude=ClaudeOptions(program=str(stub)))
        await _measure(sheet, LocalProcess(local), stub, env)
        async with default_image() as image:
            if not image:
                sheet.note("no engine answers here: no containers")
                return
            there = _record("docker", work, image=image, claude=ClaudeOptions(program="/workspace/stub"))
            await _measure(sheet, DockerContainer(there), stub, env)


def _record(kind: str, work: Path, **fields: object) -> ClaudeInstance:
    name = f"bench-{os.getpid()}-{kind}"
    return ClaudeInstance.of(name=name, kind=kind, workspace=work, ephemeral=True, **fields)  # type: ignore[arg-type]


async def _measure(sheet: Sheet, instance: InstanceInterface, stub: Path, env: dict[str, str]) -> None:
    """In turn, so that what else the machine does hits both alike."""
    program = str(Path(sys.executable).with_name("cc-bridge-claude"))
    directly, through = list[tuple[float, float]](), list[tuple[float, float]]()
    async with instance:
        session = await instance.beside.run([], {})  # type: ignore[attr-defined]
        await session.aclose()
        named = {**env, "CC_BRIDGE_INSTANCE": instance.record.name}
        for _ in range(ROUNDS + 2):
            directly.append(_first_byte([str(stub)], stub.parent, named))
            through.append(_first_byte([program, "-p"], stub.parent, named))
    kind = type(instance).__name__
    added = [there[0] - here[0] for here, there in zip(directly, through, strict=True)][2:]
    sheet.add(f"{kind}: added until the first byte", milli(added), "ms", most=MOST)
    sheet.add(
        f"{kind}: processor time of `cc-bridge claude`", milli([used for _, used in through[2:]]), "ms", most=MOST
    )
    sheet.note(f"{kind}: the quickest adds {min(added) * 1e3:.0f} ms")


def _first_byte(argv: list[str], cwd: Path, env: dict[str, str]) -> tuple[float, float]:
    """Seconds until the first byte of its output, and of processor time that it has used to its end."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=cwd, env=env)
    assert process.stdout
    with process.stdout:
        process.stdout.read(1)
        first = time.perf_counter() - began
        process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{argv[0]} ended with {process.returncode}")
    return first, usage.ru_utime + usage.ru_stime
