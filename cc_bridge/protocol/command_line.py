"""Claude Code's command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ClaudeOptions", "claude_argv", "interactive_argv", "one_shot_argv", "pane_argv"]


@dataclass(frozen=True)
class ClaudeOptions:
    """How Claude Code is started. Empty means: its own default.

    Attributes:
        program: name or path of ``claude``.
        permission_mode: ``default``, ``acceptEdits``, ``plan`` ...
        skip_permissions: only where a container holds it; refused for a local process.
        mcp_config: of MCP servers, each a file where Claude Code runs, or JSON. Other users of its machine can see them
            while it runs: secrets belong into ``env``, and ``${NAME}`` stands for them.
        extra: more of Claude Code's own words.
    """

    program: str = "claude"
    model: str = ""
    system_prompt: str = ""
    append_system_prompt: str = ""
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()
    permission_mode: str = ""
    skip_permissions: bool = False
    mcp_config: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def claude_argv(options: ClaudeOptions, *, resume: str = "", fork: bool = False) -> list[str]:
    """The words that start a conversation over stdin and stdout.

    Args:
        resume: id of a session to go on with.
        fork: go on in a copy of it.
    """
    argv = [options.program, "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
    argv += ["--include-partial-messages", "--replay-user-messages", "--permission-prompt-tool", "stdio"]
    return argv + _chosen(options, resume, fork)


def one_shot_argv(options: ClaudeOptions, *, resume: str = "", fork: bool = False) -> list[str]:
    """The words that answer the one prompt on stdin, and end. Arguments as :func:`claude_argv` has them."""
    argv = [options.program, "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"]
    return argv + _chosen(options, resume, fork)


def interactive_argv(options: ClaudeOptions, *, resume: str = "", fork: bool = False) -> list[str]:
    """The words that start the interactive Claude Code. Arguments as :func:`claude_argv` has them."""
    # Said, because the default there is a mode that decides by itself (2.1.329).
    mode = [] if options.permission_mode or options.skip_permissions else ["--permission-mode", "default"]
    return [options.program, *mode, *_chosen(options, resume, fork)]


def pane_argv(
    python: Sequence[str],
    directory: str,
    claude: Sequence[str],
    *,
    name: str,
    relay: bool = True,
    tmux_socket: str = "",
    pane: str = "",
    unset: Sequence[str] = (),
) -> list[str]:
    """The words that run an interactive Claude Code in a pane, behind the same stdin and stdout.

    Args:
        python: the interpreter's words and the agent's archive.
        directory: of the pane's own; its tmux socket is ``tmux`` in there, unless ``tmux_socket`` names another.
        claude: what :func:`interactive_argv` has made.
        name: of the tmux session.
        pane: an existing pane to take over.
        unset: variables that Claude Code must not get from the tmux server that it runs in.
    """
    argv = [*python, "pane", "--dir", directory, "--name", name]
    argv += _option("--tmux-socket", tmux_socket) + _option("--pane", pane) + ([] if relay else ["--no-relay"])
    argv += _option("--unset", ",".join(unset))
    return [*argv, "--", *claude]


def _chosen(options: ClaudeOptions, resume: str, fork: bool) -> list[str]:
    argv = _option("--resume", resume) + (["--fork-session"] if resume and fork else [])
    argv += _option("--model", options.model)
    argv += _option("--system-prompt", options.system_prompt)
    argv += _option("--append-system-prompt", options.append_system_prompt)
    argv += _option("--permission-mode", options.permission_mode)
    argv += _list("--allowedTools", options.allowed_tools)
    argv += _list("--disallowedTools", options.disallowed_tools)
    argv += [f"--mcp-config={config}" for config in options.mcp_config]
    argv += ["--dangerously-skip-permissions"] if options.skip_permissions else []
    return [*argv, *options.extra]


def _option(name: str, value: str) -> list[str]:
    return [name, value] if value else []


def _list(name: str, values: Sequence[str]) -> list[str]:
    # One word: Claude Code's list options swallow every word that follows them.
    return [f"{name}={','.join(values)}"] if values else []
