"""The verbs, each in a module that is imported when the verb is wanted."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

__all__ = ["SUBJECTS", "VERBS", "Verb"]


class Verb(NamedTuple):
    """Where a verb is: a function of a module, or a typer of verbs of its own.

    Attributes:
        function: its name; empty: the verb's.
        foreign_options: from its first argument on, options are of another command's.
    """

    module: str
    function: str = ""
    foreign_options: bool = False

    def load(self, name: str) -> Any:
        """Import it; ``name`` is the verb's."""
        return getattr(importlib.import_module(f".{self.module}", __package__), self.function or name)


#: In the order in which a newcomer meets them.
VERBS = {
    "run": Verb("run"),
    "up": Verb("up"),
    "send": Verb("send"),
    "chat": Verb("chat"),
    "attach": Verb("attach"),
    "turns": Verb("turns"),
    "follow": Verb("turns", "follow"),
    "interrupt": Verb("turns", "interrupt"),
    "permissions": Verb("permissions"),
    "allow": Verb("permissions", "allow"),
    "deny": Verb("permissions", "deny"),
    "history": Verb("history"),
    "ps": Verb("ps"),
    "info": Verb("info"),
    "stats": Verb("stats"),
    "logs": Verb("logs"),
    "network": Verb("network"),
    "exec": Verb("exec_", "exec_", foreign_options=True),
    "shell": Verb("exec_", "shell"),
    "cp": Verb("cp"),
    "start": Verb("start"),
    "stop": Verb("stop"),
    "restart": Verb("start", "restart"),
    "sleep": Verb("sleep"),
    "wake": Verb("start", "wake"),
    "update": Verb("update"),
    "rm": Verb("rm"),
    "prune": Verb("prune"),
    "image": Verb("image", "app"),
    "export": Verb("export"),
    "import": Verb("import_", "import_"),
    "config": Verb("config", "app"),
    "proxy": Verb("proxy", "app"),
    "node": Verb("node", "app"),
    "serve": Verb("serve"),
    "claude": Verb("claude", foreign_options=True),
    "doctor": Verb("doctor"),
}

#: By subject, as ``--help`` lists them.
SUBJECTS = {
    "Talk": ("run", "send", "chat", "attach"),
    "Look": ("ps", "info", "turns", "follow", "history", "logs", "network", "stats", "doctor", "config"),
    "Permissions": ("permissions", "allow", "deny"),
    "Instances": ("up", "start", "stop", "restart", "sleep", "wake", "interrupt", "update", "rm", "prune"),
    "A swarm": ("node",),
    "In the container": ("exec", "shell", "cp"),
    "Conversations and images": ("export", "import", "image"),
    "For other programs": ("serve", "claude", "proxy"),
}
