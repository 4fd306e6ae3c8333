"""The agent's command line: ``serve``, ``attach``, ``health``, ``pane``."""

import argparse
import os
import sys
from typing import List, Optional

from . import __version__, attach, server
from .egress import Egress
from .loop import Loop
from .rendezvous import AlreadyServing, PipeListener, SocketListener

ALREADY_SERVING = 4


def default_socket() -> str:
    """A place that needs no agreement between ``serve`` and a later ``attach``, and is this user's own."""
    import tempfile  # on demand: it brings what takes longer to load than the agent itself

    return os.path.join(tempfile.gettempdir(), "cc-bridge-%d" % os.getuid(), "agent.sock")


def main(arguments: Optional[List[str]] = None) -> int:
    """Run a verb; its exit code."""
    options = _parse(arguments)
    if options.verb == "serve":
        return serve(options)
    if options.verb == "pane":
        from .pane import program  # on demand: the bridge itself needs none of it

        return program.run(options)
    try:
        if options.verb == "attach":
            return attach.attach(options.socket)
        return attach.health(options.socket, options.timeout)
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the other side has ended, which is how every attachment ends
    except KeyboardInterrupt:
        return 130


def serve(options: argparse.Namespace) -> int:
    """Serve until a signal or a host ends it; 4 where another agent serves here already."""
    _secure_standard_descriptors()
    loop = Loop()
    state = options.state or options.socket + ".state"
    bridge = server.Server(loop, state, options.journal_limit, options.grace, options.linger)
    try:
        bridge.listen(SocketListener(loop, options.socket, bridge.accept))
    except AlreadyServing:
        server.log("already_serving", socket=options.socket)
        return ALREADY_SERVING
    pipes = ""
    if options.pipes:
        try:
            bridge.listen(PipeListener(loop, options.pipes, bridge.accept, server.log))
            pipes = options.pipes
        except OSError as error:  # the socket, and with it docker exec, still works
            server.log("pipes_unusable", directory=options.pipes, reason=str(error))
    if options.egress is not None:
        try:
            bridge.egress = Egress(loop, server.log, options.egress, bridge.epoch)
            for name in options.egress_env:
                os.environ[name] = "http://127.0.0.1:%d" % bridge.egress.port
        except OSError as error:  # who needs it is told so; all else works
            server.log("way_out_unusable", port=options.egress, reason=str(error))
    server.log("listening", pid=os.getpid(), version=__version__, pipes=pipes, socket=options.socket)
    if options.ready_fd is not None:
        os.write(options.ready_fd, b"ready\n")
        os.close(options.ready_fd)
    try:
        loop.run()
    finally:
        bridge.close()
    return 0


def _secure_standard_descriptors() -> None:
    """Devnull on 0 and 1, so that nothing stray is ever read or written there; stderr stays for the log."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _parse(arguments: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cc_bridge_agent", description="The half of cc-bridge beside Claude Code.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    serving = verbs.add_parser("serve", help="run the bridge until SIGTERM")
    serving.add_argument("--pipes", metavar="DIR", help="directory of named pipes shared with the host")
    serving.add_argument("--state", metavar="DIR", help="directory for journals (by default, beside the socket)")
    serving.add_argument(
        "--journal-limit", type=int, metavar="BYTES", default=256 * 1024 * 1024, help="of a journal (%(default)s)"
    )
    serving.add_argument("--grace", type=float, default=5.0, help="seconds for Claude Code to end (%(default)s)")
    serving.add_argument("--linger", type=float, help="end after so many seconds without a client")
    serving.add_argument("--egress", type=int, metavar="PORT", help="pass on what connects to this port (0: any)")
    serving.add_argument("--egress-env", action="append", default=[], metavar="NAME", help="of a variable with its URL")
    serving.add_argument("--ready-fd", type=int, help="write a line to this descriptor when listening")
    attaching = verbs.add_parser("attach", help="copy between stdin/stdout and the agent")
    checking = verbs.add_parser("health", help="exit 0 if the agent answers")
    checking.add_argument("--timeout", type=float, default=5.0, help="seconds (%(default)s)")
    panes = verbs.add_parser("pane", help="run the interactive Claude Code in tmux, and speak stream-json")
    panes.add_argument("--dir", required=True, help="a directory of the pane's own; made anew")
    panes.add_argument("--tmux-socket", metavar="PATH", help="the user's tmux server; by default one of its own")
    panes.add_argument("--name", default="claude", help="of the tmux session (%(default)s)")
    panes.add_argument("--pane", default="", help="take the place of what runs in this pane")
    panes.add_argument("--size", default="200x50", metavar="WxH", help="while nobody is attached (%(default)s)")
    panes.add_argument("--unset", default="", help="variables that Claude Code must not inherit, parted by commas")
    panes.add_argument("--no-relay", action="store_true", help="let Claude Code talk to the API directly")
    panes.add_argument("claude", nargs=argparse.REMAINDER, help="-- and Claude Code's command line")
    for verb in (serving, attaching, checking):
        verb.add_argument("--socket", help="the agent's own socket (agent.sock in $TMPDIR/cc-bridge-UID)")
    options = parser.parse_args(arguments)
    if options.verb != "pane":
        options.socket = options.socket or default_socket()
    return options


def run() -> None:
    """The zipapp's entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
