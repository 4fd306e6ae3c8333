"""The pane's private directory, the programs in it that Claude Code runs, and its settings.

::

    DIR/                 0700
    ├── in/              what has happened, a file each, moved into place whole; read and deleted at once
    ├── answers/         a FIFO for each permission that is wanted
    ├── hook, permission, editor, start   programs of a few lines of sh(1)
    ├── settings.json    has Claude Code run them
    ├── asked, next      what the editor is to do when it is called
    ├── late/            a file for each key that was given up, and may still have the editor called before the last one
    ├── lost/            the same, where Claude Code has heard a later key
    └── tmux             the socket of the pane's own server

A hook that wrote to a pipe would wait where nobody reads, and tear what is longer than PIPE_BUF; a file that is moved
into place does neither. So Claude Code never waits for us, but for the answer to a permission.
"""

import fcntl
import glob
import json
import os
import re
import shlex
import shutil
import signal
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from .http import decoded

#: Seconds for which Claude Code waits for a permission to be decided; a person at the pane may take an hour.
_PERMISSION_LIMIT = 24 * 3600

#: In a line of a transcript: somebody has said something.
_SAID = re.compile(rb'"type": ?"(?:user|assistant)"')

#: Seconds for the last program in the same directory to end.
_LOCK_LIMIT = 10.0

#: Answers whose FIFOs are kept open: long enough for the slowest hook to have read.
_KEPT_ANSWERS = 16

_HOOK = """#!/bin/sh
# Tell that {what}. Never waits, and never stands in Claude Code's way.
[ -d {dir}/in ] || exit 0
cat >{dir}/in/.$$ && mv {dir}/in/.$$ "{dir}/in/$1.$$"
exit 0
"""

_PERMISSION = """#!/bin/sh
# Tell that a permission is wanted, and wait for the answer. The dialog is open meanwhile: a person may answer first.
[ -d {dir}/in ] && mkfifo {dir}/answers/$$ || exit 0
cat >{dir}/in/.$$ && mv {dir}/in/.$$ {dir}/in/PermissionRequest.$$ || exit 0
read -r _ <{dir}/answers/$$
cat {dir}/answers/$$.json 2>/dev/null
rm -f {dir}/answers/$$ {dir}/answers/$$.json
exit 0
"""

_EDITOR = """#!/bin/sh
# Called on Ctrl-G: by cc-bridge, to put a command into the input line ("asked" is there), or by a person.
leave_if_late() {{
    for key in {dir}/late/*; do
        rm "$key" 2>/dev/null || continue
        [ ! -e {dir}/asked.$$ ] || ln {dir}/asked.$$ {dir}/asked 2>/dev/null
        rm -f {dir}/asked.$$
        : >{dir}/in/.$$ && mv {dir}/in/.$$ {dir}/in/LateKey.$$
        exit 0
    done
}}
leave_if_late
mv {dir}/asked {dir}/asked.$$ 2>/dev/null
leave_if_late # if this key was given up while we looked, that was asked of the next one
if [ -e {dir}/asked.$$ ]; then
    verdict=found
    read -r mode <{dir}/asked.$$
    {{ [ "$mode" = replace ] || {{ [ "$mode" = put ] && [ ! -s "$1" ]; }}; }} && verdict=put
    {{ printf '%s %s\\n' "$verdict" "$1"; cat "$1"; }} >{dir}/in/.$$
    [ "$verdict" = put ] && cat {dir}/next >"$1"
    rm -f {dir}/asked.$$
    mv {dir}/in/.$$ {dir}/in/Editor.$$
    exit 0
fi
# A key that was given up and came late: the person did not ask for an editor.
for key in {dir}/lost/*; do
    rm "$key" 2>/dev/null && exit 0
done
exec {editor} "$@"
"""

_START = """#!/bin/sh
. {dir}/launch
rm -f {dir}/launch
printf '%s\\n' $$ >{dir}/in/.start && mv {dir}/in/.start {dir}/in/Started.$$
"$@"
code=$?
printf '%s\\n' "$code" >{dir}/in/.end && mv {dir}/in/.end {dir}/in/Ended.$$
exit "$code"
"""


class Happening(NamedTuple):
    """A file of ``in/``: a hook's event, or another word of the programs'.

    Attributes:
        key: of the process that wrote it.
    """

    kind: str
    key: str
    content: bytes


class Files:
    """The directory, made anew. ``lines``: hooks are to tell of each line that is shown, too."""

    def __init__(self, path: str, *, lines: bool) -> None:
        self.path = path
        self.inbox = os.path.join(path, "in")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._lock = _wait_for_lock(path + ".lock")
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path, mode=0o700)
        os.chmod(path, 0o700)
        for name in ("in", "answers", "late", "lost"):
            os.mkdir(os.path.join(path, name), 0o700)
        quoted = shlex.quote(path)
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        self._program("hook", _HOOK.format(dir=quoted, what="something has happened"))
        self._program("permission", _PERMISSION.format(dir=quoted))
        self._program("editor", _EDITOR.format(dir=quoted, editor=editor))
        self._program("start", _START.format(dir=quoted))
        self._write("settings.json", json.dumps(self._settings(lines)))
        self._late = 0
        self._answers: Dict[str, int] = {}  # descriptors of FIFOs that have their answer

    def at(self, name: str) -> str:
        """The path of a name in the directory."""
        return os.path.join(self.path, name)

    def read(self, name: str) -> Optional[Happening]:
        """Take a file out of ``in/``; None: it is not ready, or was taken."""
        if name.startswith("."):
            return None
        path = os.path.join(self.inbox, name)
        try:
            with open(path, "rb") as file:
                content = file.read()
            os.unlink(path)
        except OSError:
            return None
        kind, _, key = name.partition(".")
        return Happening(kind, key, content)

    def ask_editor(self, text: Optional[str], *, replace: bool, lost: bool, again: bool) -> bool:
        """What the editor is to do when it is called for the next key; ``lost``: for those before, it will not be.

        Args:
            again: the last key has had no answer.

        Returns:
            False: the editor is at it, and nothing was changed.
        """
        if not self.give_up_key() and again:
            return False
        if lost:
            for name in os.listdir(self.at("late")):
                try:
                    os.rename(os.path.join(self.at("late"), name), os.path.join(self.at("lost"), name))
                except FileNotFoundError:
                    pass  # heard at this moment
        self._write("next", text or "")
        self._write("asked", "look\n" if text is None else "replace\n" if replace else "put\n")
        return True

    def give_up_key(self) -> bool:
        """The key that was pressed last is not waited for, and is to do nothing; False: it was heard already."""
        self._late += 1
        try:
            os.rename(self.at("asked"), os.path.join(self.at("late"), str(self._late)))
        except FileNotFoundError:
            return False
        return True

    def forget_late_keys(self) -> None:
        """Abandoned key presses have fired or been lost: drop their markers."""
        for directory in (self.at("late"), self.at("lost")):
            for name in os.listdir(directory):
                try:
                    os.unlink(os.path.join(directory, name))
                except FileNotFoundError:
                    pass  # heard at this moment

    def answer(self, key: str, output: Dict[str, Any]) -> None:
        """Answer a permission hook; an empty answer leaves the decision to the dialog."""
        path = os.path.join(self.path, "answers", key)
        self._write(os.path.join("answers", key + ".json"), json.dumps(output) if output else "")
        try:
            # For both directions: succeeds whether the hook reads already, or no more.
            self._answers[key] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # the hook has gone: somebody has decided
        os.write(self._answers[key], b"\n")
        if len(self._answers) > _KEPT_ANSWERS:
            os.close(self._answers.pop(next(iter(self._answers))))

    def launch(self, argv: Sequence[str], env: Dict[str, str], unset: Sequence[str]) -> None:
        """Have ``start`` start this program. A file, because a command line would show the variables to everybody."""
        lines = ["unset " + name for name in unset]
        lines += ["export %s=%s" % (name, shlex.quote(value)) for name, value in env.items()]
        lines.append("set -- " + " ".join(map(shlex.quote, argv)))
        self._write("launch", "\n".join(lines) + "\n")

    def remove(self) -> None:
        """Delete the directory; hooks that still wait for an answer get none."""
        for fd in self._answers.values():
            os.close(fd)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def _settings(self, lines: bool) -> Dict[str, Any]:
        events = ["SessionStart", "UserPromptSubmit", "Stop", "StopFailure"]
        events += ["MessageDisplay", "PreToolUse"] if lines else []
        hooks = {event: [_command(shlex.quote(self.at("hook")) + " " + event)] for event in events}
        hooks["PermissionRequest"] = [_command(shlex.quote(self.at("permission")), _PERMISSION_LIMIT)]
        return {"hooks": hooks}

    def _program(self, name: str, text: str) -> None:
        self._write(name, text)
        os.chmod(self.at(name), 0o700)

    def _write(self, name: str, text: str) -> None:
        path = self.at(name)
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)


def _command(command: str, timeout: int = 10) -> Dict[str, Any]:
    return {"hooks": [{"type": "command", "command": command, "timeout": timeout}]}


def _wait_for_lock(path: str) -> int:
    """The directory is ours alone: one before us, whose agent was killed, may be ending. In the main thread only.

    Raises:
        BlockingIOError: it does not end.
    """

    def give_up(_number: int, _frame: object) -> None:
        raise BlockingIOError("another program uses %s" % path)

    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, _LOCK_LIMIT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # which the handler interrupts
    except BlockingIOError:
        os.close(fd)
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return fd


def can_be_resumed(session_id: str, env: Dict[str, str]) -> bool:
    """There is a conversation to go on with.

    A Claude Code that was killed at once leaves a file without one, and refuses ever after to resume it.
    """
    home = env.get("HOME") or os.path.expanduser("~")
    projects = os.path.join(env.get("CLAUDE_CONFIG_DIR") or os.path.join(home, ".claude"), "projects")
    for path in glob.glob(os.path.join(glob.escape(projects), "*", glob.escape(session_id) + ".jsonl")):
        with open(path, "rb") as file:
            if any(_SAID.search(line) for line in file):
                return True
    return False


def seed(env: Dict[str, str], cwd: str, *, skips_permissions: bool) -> None:
    """Answer beforehand what Claude Code asks on its first start here: theme, trust in the directory, use of the key.

    Only what was never asked is added to its configuration.
    """
    directory = env.get("CLAUDE_CONFIG_DIR")
    path = os.path.join(directory or env.get("HOME") or os.path.expanduser("~"), ".claude.json")
    try:
        with open(path, "rb") as file:
            config = decoded(file.read())
    except FileNotFoundError:
        config = {}
    before = json.dumps(config)
    config.setdefault("hasCompletedOnboarding", True)
    config.setdefault("theme", "dark")
    if skips_permissions:
        config.setdefault("bypassPermissionsModeAccepted", True)
    key = env.get("ANTHROPIC_API_KEY")
    if key:
        approved: List[str] = config.setdefault("customApiKeyResponses", {}).setdefault("approved", [])
        if key[-20:] not in approved:
            approved.append(key[-20:])
    config.setdefault("projects", {}).setdefault(cwd, {}).setdefault("hasTrustDialogAccepted", True)
    if json.dumps(config) != before:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(os.open(path + ".cc-bridge", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(config, file)
        os.replace(path + ".cc-bridge", path)
