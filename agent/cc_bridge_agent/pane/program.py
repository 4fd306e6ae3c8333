"""``pane``: the program that the agent runs in the place of ``claude -p``. It joins the other modules."""

import argparse
import asyncio
import os
import signal
import sys
from typing import Any, Coroutine, Dict, List, Optional

from .. import wire
from ..server import log
from . import input_line as line
from . import translator as tr
from .answer import StreamedAnswer
from .files import Files, Happening, can_be_resumed, seed
from .http import Head, decoded
from .inotify import Watcher
from .relay import Exchange, Relay
from .text import last_lines
from .tmux import Tmux, TmuxError
from .transcript import Transcript

#: Seconds for Claude Code to end its turn, and for it to end, when this program is told to.
_INTERRUPT_LIMIT = 2.0
_END_LIMIT = 3.0

#: Seconds after our last Ctrl-G for all of them to be heard or lost: after that, it is a person's.
_KEY_LIFE = 30.0

#: The exit code of a Claude Code whose end nobody saw: as if by SIGHUP, which is what a lost terminal sends.
_HUNG_UP = 128 + signal.SIGHUP

#: Another way to the API is chosen by these: the relay would be the wrong one.
_OTHER_WAYS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")

#: Variables that are for ``claude -p``, or of a Claude Code around us.
_UNSET = ("TMUX", "TMUX_PANE", "CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT")


def run(options: argparse.Namespace) -> int:
    """Run the pane until Claude Code has ended; its exit code."""
    argv = options.claude[1:] if options.claude[:1] == ["--"] else options.claude
    try:
        return asyncio.run(_run(options, argv))
    except (TmuxError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


async def _run(options: argparse.Namespace, argv: List[str]) -> int:
    return await _Pane(options, argv).run()


class _Pane:
    def __init__(self, options: argparse.Namespace, argv: List[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._argv = argv
        self._env = dict(os.environ)
        upstream = self._env.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
        self._relay = Relay(upstream, self._exchange, self._drained, log) if self._wants_relay() else None
        self._files = Files(options.dir, lines=self._relay is None)
        self._tmux = Tmux(options.tmux_socket or self._files.at("tmux"), own=not options.tmux_socket)
        self._translator = tr.Translator(self._now())
        self._line = line.InputLine()
        self._watcher = Watcher()
        self._transcript: Optional[Transcript] = None
        self._lines = _InOrder()
        self._process = 0  # the pane's: a shell, whose child is Claude Code
        self._claude: Dict[int, int] = {}  # descriptors by process ids
        self._forgetting: Optional[asyncio.TimerHandle] = None
        self._editing = ""  # the editor's file whose deletion is waited for
        self._timer: Optional[asyncio.TimerHandle] = None
        self._doing: "asyncio.Queue[Any]" = asyncio.Queue()
        self._over: "asyncio.Future[int]" = self._loop.create_future()
        self._endings: "List[asyncio.Task[None]]" = []  # the loop itself keeps no task alive
        self._idle = asyncio.Event()
        self._stdout: Optional[asyncio.StreamWriter] = None

    def _wants_relay(self) -> bool:
        """Only where the login is in the environment: another login may depend on the API's own address."""
        env = self._env
        plain = any(env.get(name) for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"))
        proxied = any(env.get(name) for name in _PROXIES) and not env.get("ANTHROPIC_BASE_URL")
        elsewhere = any(env.get(name) for name in _OTHER_WAYS)
        return plain and not self._options.no_relay and not proxied and not elsewhere

    def _now(self) -> float:
        return self._loop.time()

    # Life

    async def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._asked_to_end)
        tasks = [self._attend(task) for task in (self._read_stdin(), self._do())]
        try:
            await self._open_stdout()
            self._watcher.watch(self._files.inbox)
            self._loop.add_reader(self._watcher.fd, self._look_around)
            await self._start()
            tasks.append(self._attend(self._find_version()))
            code = await self._over
            self._look_around()  # what was still to be told
            await self._drained()
            return code
        finally:
            self._loop.remove_reader(self._watcher.fd)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._relay is not None:
                await self._relay.close()
            self._find_claude()
            await self._tmux.close()
            await self._outlive_claude()
            self._watcher.close()
            self._files.remove()

    def _attend(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Do this beside; if it fails, all ends, and says why."""

        def over(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and task.exception() is not None:
                self._end(1, "the pane's program failed: %r" % task.exception())

        task = asyncio.ensure_future(work)
        task.add_done_callback(over)
        return task

    async def _start(self) -> None:
        env, cwd = self._env, os.getcwd()
        seed(env, cwd, skips_permissions="--dangerously-skip-permissions" in self._argv)
        # In the background a subagent's turn would go on after its command's, and its dialogs belong to nobody.
        changed = {"CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1", **env}
        changed.update(EDITOR=self._files.at("editor"), VISUAL=self._files.at("editor"))
        if "UTF-8" not in env.get("LC_ALL", env.get("LANG", "")).upper():
            changed["LC_ALL"] = "C.UTF-8"
        if self._relay is not None:
            changed["ANTHROPIC_BASE_URL"] = await self._relay.start()
        for name in (*_UNSET, "TERM"):
            changed.pop(name, None)
        words = [self._argv[0], "--settings", self._files.at("settings.json"), *self._argv[1:]]
        if "--resume" in words:
            at = words.index("--resume")
            if not can_be_resumed(words[at + 1], env):
                log("session_gone", session=words[at + 1])
                del words[at : at + 2]
                words = [word for word in words if word != "--fork-session"]
        unset = [*_UNSET, *filter(_is_variable, self._options.unset.split(","))]
        self._files.launch(words, {name: text for name, text in changed.items() if _is_variable(name)}, unset)
        if self._tmux.own:
            await self._tmux.start_server()
            assert self._tmux.server is not None
            server = asyncio.ensure_future(self._tmux.server.wait())
            server.add_done_callback(lambda _: self._end(_HUNG_UP, "the tmux server has ended"))
        options = self._options
        await self._tmux.open(self._files.at("start"), name=options.name, size=options.size, cwd=cwd, pane=options.pane)

    def _asked_to_end(self) -> None:
        self._endings.append(asyncio.ensure_future(self._end_orderly()))

    async def _end_orderly(self) -> None:
        """Interrupt what runs, then close the terminal."""
        turn = self._translator.turn
        if turn is not None and turn.entry is not None:
            self._translator.interrupt(self._now())
            self._settle()
            try:
                await asyncio.wait_for(self._idle.wait(), _INTERRUPT_LIMIT)
            except asyncio.TimeoutError:
                pass  # the transcript has what it has
        self._end(0, "")

    def _end(self, code: int, why: str) -> None:
        if not self._over.done():
            if why:
                print(why, file=sys.stderr, flush=True)
            self._over.set_result(code)

    def _find_claude(self) -> None:
        """Hold what the pane's program has started, Claude Code, by a descriptor: it may outlive its parent."""
        try:
            with open("/proc/%d/task/%d/children" % (self._process, self._process)) as file:
                for pid in map(int, file.read().split()):
                    if pid not in self._claude:
                        self._claude[pid] = os.pidfd_open(pid)
        except OSError:
            pass  # it has ended

    async def _outlive_claude(self) -> None:
        """Wait until Claude Code has ended, so that it writes nothing after us; kill one that does not."""
        for fd in self._claude.values():
            ended = asyncio.Event()
            self._loop.add_reader(fd, ended.set)
            try:
                await asyncio.wait_for(ended.wait(), _END_LIMIT)
            except asyncio.TimeoutError:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            self._loop.remove_reader(fd)
            os.close(fd)

    async def _find_version(self) -> None:
        """Claude Code's version, which it says nowhere before its first turn."""
        process = await asyncio.create_subprocess_exec(
            self._argv[0], "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        output, _ = await process.communicate()
        said = output.decode("utf-8", "replace").split(" ")[0].strip()
        self._translator.host.version = self._translator.host.version or said

    # stdin and stdout

    async def _read_stdin(self) -> None:
        reader = asyncio.StreamReader()
        await self._loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        splitter = wire.LineSplitter()
        while True:
            data = await reader.read(65536)
            if not data:
                await self._end_orderly()
                return
            for item in splitter.feed(data):
                self._translator.receive(decoded(item), self._now())
            self._settle()

    async def _open_stdout(self) -> None:
        transport, protocol = await self._loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
        self._stdout = asyncio.StreamWriter(transport, protocol, None, self._loop)

    async def _drained(self) -> None:
        try:
            if self._stdout is not None:
                await self._stdout.drain()
        except ConnectionError:
            self._end(_HUNG_UP, "")  # the agent has ended

    # What happens

    def _look_around(self) -> None:
        """Handle what inotify has to tell: hooks, the transcript, the editor's file."""
        grown = False
        for directory, name, there in self._watcher.read():
            if directory == self._files.inbox:
                happening = self._files.read(name) if there else None
                if happening is not None:
                    self._happened(happening)
            elif self._transcript is not None and os.path.join(directory, name) == self._transcript.path:
                grown = True
            if not there and os.path.join(directory, name) == self._editing:
                self._edited()
        if grown:
            self._read_transcript()
        self._settle()

    def _read_transcript(self) -> None:
        assert self._transcript is not None
        for entry in self._transcript.read():
            self._translator.transcript(entry, self._now())
        self._translator.advance(self._now())

    def _happened(self, happening: Happening) -> None:
        now = self._now()
        if happening.kind == "Started":
            self._watch_process(int(happening.content))
        elif happening.kind == "Ended":
            self._end(int(happening.content), "")
        elif happening.kind == "Editor":
            self._editor_called(happening.content, now)
        elif happening.kind == "LateKey":
            self._line.late_key(now)
        else:
            payload = decoded(happening.content)
            if happening.kind == "SessionStart":
                self._find_claude()
                self._follow(payload)
            if happening.kind == "MessageDisplay":
                for item in self._lines.add(payload):
                    self._translator.hook(happening.kind, item, happening.key, now)
            else:
                if happening.kind == "UserPromptSubmit":
                    self._forget_late_keys()  # Enter came after them
                self._translator.hook(happening.kind, payload, happening.key, now)

    def _editor_called(self, content: bytes, now: float) -> None:
        header, _, draft = content.partition(b"\n")
        verdict, _, path = os.fsdecode(header).partition(" ")
        self._editing = path
        try:
            self._watcher.watch(os.path.dirname(path))
        except OSError as error:
            log("not_watched", path=os.path.dirname(path), reason=str(error))
        self._line.editor_called(verdict == "put", draft.decode("utf-8", "replace"), path, now)
        if not os.path.exists(path):
            self._edited()

    def _forget_late_keys(self) -> None:
        self._files.forget_late_keys()
        self._line.forget_keys()

    def _edited(self) -> None:
        """The editor's file is gone; what else is done in its directory, which is everybody's, is to wake nobody."""
        path, self._editing = self._editing, ""
        needed = {self._files.inbox, os.path.dirname(self._transcript.path) if self._transcript is not None else ""}
        if os.path.dirname(path) not in needed:
            self._watcher.forget(os.path.dirname(path))
        self._line.file_deleted(path, self._now())

    def _follow(self, payload: Dict[str, Any]) -> None:
        """Read this session's transcript from here on."""
        path = str(payload.get("transcript_path", ""))
        if self._transcript is not None and self._transcript.path == path:
            return
        self._transcript = Transcript(path, whole=payload.get("source") == "clear")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._watcher.watch(os.path.dirname(path))
        self._read_transcript()

    def _watch_process(self, pid: int) -> None:
        """Notice the end of Claude Code's pane, however it ends."""
        self._process = pid
        fd = os.pidfd_open(pid)

        def ended() -> None:
            self._loop.remove_reader(fd)
            os.close(fd)
            self._look_around()  # it may have said how
            # Where the server was what ended, that is heard at the same time, and is the better word.
            self._loop.call_later(0.2, lambda: self._end(_HUNG_UP, "the pane was closed"))

        self._loop.add_reader(fd, ended)

    def _exchange(self) -> "_Reading":
        return _Reading(self)

    # What is to be done

    def _settle(self) -> None:
        """Pass on what is to be said, and what is to be done."""
        translator = self._translator
        self._join()
        if self._stdout is not None:
            for message in translator.host.output:
                self._stdout.write(wire.encode(message))
            translator.host.output.clear()
        if translator.turn is None:
            self._idle.set()
        else:
            self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
        times = [when for when in (translator.next_timer, self._line.wake_at) if when is not None]
        self._timer = self._loop.call_at(min(times), self._wake) if times else None

    def _join(self) -> None:
        """Between translator, input line and pane, until all is said."""
        translator, now = self._translator, self._now()
        while translator.actions or translator.host.answers or self._line.effects:
            while translator.host.answers:
                self._files.answer(*translator.host.answers.pop(0))
            actions, translator.actions = translator.actions, []
            effects, self._line.effects = self._line.effects, []
            for action in actions:
                self._carry_out(action, now)
            for effect in effects:
                if isinstance(effect, line.Looked):
                    translator.looked(effect.draft, now)
                elif isinstance(effect, line.Withdrawn):
                    translator.withdrawn(now)
                self._doing.put_nowait(effect)

    def _carry_out(self, action: Any, now: float) -> None:
        if isinstance(action, tr.Enter):
            self._line.enter(action.text, action.replaceable, now)
        elif isinstance(action, tr.Look):
            if not self._line.busy:
                self._line.look(action.replaceable, now)
        elif isinstance(action, tr.Withdraw):
            self._line.withdraw()
        else:
            self._doing.put_nowait(line.Press("escape"))

    async def _do(self) -> None:
        """Press keys, one after the other."""
        while True:
            item = await self._doing.get()
            if not isinstance(item, (line.Ask, line.Press)):
                self._files.give_up_key()  # the job is over
            try:
                if isinstance(item, line.Ask):
                    await self._ask(item)
                elif isinstance(item, line.Press):
                    await self._tmux.press(item.key)
                elif isinstance(item, line.Entered):
                    self._translator.entered(self._now())
                elif isinstance(item, line.Blocked):
                    self._translator.blocked(last_lines(await self._tmux.screen()), self._now())
            except TmuxError as error:  # the pane is gone: its end is on the way
                log("key_not_pressed", reason=str(error))
            self._settle()

    async def _ask(self, asked: line.Ask) -> None:
        """Have the editor called, unless it is at it already."""
        if not self._files.ask_editor(asked.text, replace=asked.replace, lost=asked.lost, again=asked.again):
            self._line.key_heard()
            return
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = self._loop.call_later(_KEY_LIFE, self._forget_late_keys)
        if asked.press:
            await self._tmux.press("editor")

    def _wake(self) -> None:
        now = self._now()
        self._line.handle_timer(now)
        self._translator.handle_timer(now)
        self._settle()


class _Reading(Exchange):
    """An exchange with the API, told where it is of a turn of ours."""

    def __init__(self, pane: _Pane) -> None:
        self._pane = pane
        self._answer: Optional[StreamedAnswer] = None

    def begun(self, head: Head, body: Dict[str, Any]) -> None:
        self._pane._look_around()  # the hook that told of the prompt was there before
        turn = self._pane._translator.exchange_begun(body, self._pane._now())
        if turn is not None:
            self._answer = StreamedAnswer(self._pane._translator.host, turn)
        self._pane._settle()

    def answered(self, status: int, headers: Dict[str, str]) -> None:
        if status >= 400 and self._answer is not None:
            wait = headers.get("retry-after", "")
            seconds = float(wait) if wait.replace(".", "", 1).isdigit() else 0.0
            self._answer.failed(status, seconds, "HTTP %d" % status)
            self._pane._settle()

    def event(self, event: Dict[str, Any]) -> None:
        if self._answer is not None:
            if event.get("type") == "error":
                error = event.get("error") or {}
                self._answer.failed(None, 0.0, str(error.get("message") or error.get("type")))
            self._answer.event(event)
            self._pane._settle()

    def over(self, *, complete: bool, by_client: bool) -> None:
        if self._answer is None or complete:
            return
        if by_client:
            self._pane._translator.exchange_aborted(self._answer.turn, self._pane._now())
        else:
            self._answer.failed(None, 0.0, "the API closed the connection")
        self._pane._settle()


class _InOrder:
    """Hooks overtake each other; the lines of a message have numbers."""

    def __init__(self) -> None:
        self._message = ""
        self._next = 0
        self._early: Dict[int, Dict[str, Any]] = {}

    def add(self, payload: Dict[str, Any]) -> List[Dict[str, Any]]:
        """The pieces that may be shown now."""
        if payload.get("message_id") != self._message:
            self._message, self._next, self._early = str(payload.get("message_id")), 0, {}
        self._early[int(payload.get("index", 0))] = payload
        ready = []
        while self._next in self._early:
            ready.append(self._early.pop(self._next))
            self._next += 1
        return ready


def _is_variable(name: str) -> bool:
    return name.isidentifier() and name.isascii()
