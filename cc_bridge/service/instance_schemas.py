"""What requests and responses about one instance look like: permissions, files, conversations, usage, settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from .schemas import Name, _Body, _Title

__all__ = [
    "AllowLonger",
    "AllowOnce",
    "Answer",
    "Answered",
    "CommandList",
    "Context",
    "Entry",
    "Fork",
    "History",
    "Listing",
    "Mode",
    "Model",
    "NewMode",
    "NewModel",
    "Permission",
    "Permissions",
    "Refuse",
    "TemplateList",
    "UsageReport",
]


class Permission(BaseModel):
    """A permission request that waits for somebody. What is in it was written by a model: show it as text."""

    id: Annotated[str, Field(examples=["k2vq6y5cmd3hzrq7zyzm3v4w5e"])]
    instance: Annotated[str, Field(examples=["work"])]
    turn: str
    tool: Annotated[str, Field(examples=["Bash"])]
    input: Annotated[
        dict[str, Any] | None,
        Field(description="What the tool would be given, whole; null: too long to be kept over a restart."),
    ]
    suggested_rules: Annotated[
        list[str],
        Field(description="What `session` and `always` allow where no rule is named.", examples=[["Bash(npm run *)"]]),
    ]
    since: Annotated[str, Field(description="When it was asked first.")]
    undecided: Annotated[str, Field(description="Why the rules have left it to somebody, where they say so.")]
    attended: Annotated[bool, Field(description="The instance waits for it now; otherwise the answer is kept for it.")]


class Permissions(BaseModel):
    """All requests that wait and that the caller sees, oldest first."""

    permissions: list[Permission]


_Rule = Annotated[str, Field(min_length=1, max_length=2000, examples=["Bash(npm run *)"])]


class AllowOnce(_Body):
    """Let the tool run, this once; with another input, where one is given."""

    answer: Annotated[Literal["allow"], Field(examples=["allow"])]
    input: dict[str, Any] | None = None


class AllowLonger(_Body):
    """Let the tool run, and what a rule covers: until the session ends, or always (it becomes the instance's rule).

    Without a rule, what Claude Code suggests.
    """

    answer: Annotated[Literal["session", "always"], Field(examples=["always"])]
    rule: _Rule | None = None


class Refuse(_Body):
    """Do not let the tool run; the model reads the reason."""

    answer: Annotated[Literal["deny"], Field(examples=["deny"])]
    reason: Annotated[str, Field(min_length=1, max_length=10_000, examples=["Use the test database."])] | None = None


Answer = Annotated[AllowOnce | AllowLonger | Refuse, Field(discriminator="answer")]


class Answered(BaseModel):
    """How a request was decided."""

    id: str
    instance: str
    answer: Literal["allow", "session", "always", "deny"]
    by: Annotated[str, Field(description="Whoever has decided: the name of their token.", examples=["first"])]


class Entry(BaseModel):
    """A file of a workspace, or what else is there."""

    name: Annotated[str, Field(examples=["report.pdf"])]
    path: Annotated[str, Field(description="From the workspace.", examples=["out/report.pdf"])]
    kind: Annotated[Literal["file", "directory", "link", "other"], Field(description="Links are not followed.")]
    size: Annotated[int | None, Field(description="Bytes of a file, where it is known.")]
    modified: Annotated[str | None, Field(description="When it was written last, where that is known.")]


class Listing(BaseModel):
    """A directory of a workspace, sorted by name."""

    path: str
    entries: list[Entry]
    truncated: Annotated[bool, Field(description="There are more, which are left out.")]


class Message(BaseModel):
    """One thing of a conversation."""

    index: Annotated[int, Field(description="Its place in the conversation, which does not change.")]
    kind: Annotated[
        Literal["prompt", "answer", "tool", "result"],
        Field(description="`tool`: the model uses one (`text` is its name); `result`: what that returned."),
    ]
    text: str
    turn: Annotated[str, Field(description="A prompt's: the id of its turn.")]
    time: Annotated[str, Field(description="ISO 8601, or empty.")]
    input: Annotated[Any, Field(description="What a tool was given.")]
    is_error: bool


class History(BaseModel):
    """A part of a conversation, oldest first."""

    messages: list[Message]
    before: Annotated[
        int | None, Field(description="For the part before this one: `?before=` this. null: this is the beginning.")
    ]
    running: Annotated[
        str | None,
        Field(description="The turn that goes on: all that belongs to it is left out here, and is in its events."),
    ]


class Fork(_Body):
    """A new instance, made from another one."""

    name: Name
    title: _Title = ""


class Usage(BaseModel):
    """Tokens, and US dollars as Claude Code estimates them."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    tokens: Annotated[int, Field(description="All of them.")]
    cost_usd: float
    turns: int


class BudgetState(BaseModel):
    """A budget, and what is spent of it. It is in `usd` or in `tokens`."""

    of: Annotated[Literal["instance", "project"], Field(description="Whose it is.")]
    name: str
    per: Annotated[Literal["day", "total"], Field(description="A day is UTC's.")]
    then: Annotated[
        Literal["refuse", "interrupt"], Field(description="When it is spent: refuse commands, or interrupt, too.")
    ]
    usd: float | None
    tokens: int | None
    spent: Annotated[float, Field(description="In dollars or tokens, as the budget; running turns included.")]


class UsageReport(BaseModel):
    """What was used, and the budgets of those that it concerns."""

    usage: Usage
    budgets: list[BudgetState]


class TemplateState(BaseModel):
    """What instances can be made from."""

    name: Annotated[str, Field(examples=["default"])]
    kind: Literal["docker", "local", "tmux", "swarm"]
    spares: Annotated[int, Field(description="How many are ready.")]


class TemplateList(BaseModel):
    """All templates of the configuration."""

    templates: list[TemplateState]


class Command(BaseModel):
    """A slash command."""

    name: Annotated[str, Field(description="Without the slash.", examples=["compact"])]
    description: str
    argument_hint: str
    aliases: list[str]
    builtin: bool


class CommandList(BaseModel):
    """The slash commands that a prompt may begin with."""

    commands: list[Command]


class Model(BaseModel):
    """The model that answers from the next request on."""

    model: Annotated[str | None, Field(description="null: Claude Code's default.", examples=["sonnet"])]


_Word = Annotated[str, Field(pattern=r"^[!-,.-~][ -~]{0,199}$")]


class NewModel(_Body):
    """Another model: a name or an alias; null: Claude Code's default."""

    model: Annotated[_Word | None, Field(examples=["sonnet"])]


class Mode(BaseModel):
    """How Claude Code asks for permissions from now on."""

    mode: Annotated[str, Field(examples=["default"])]


class NewMode(_Body):
    """Another permission mode."""

    mode: Annotated[
        Literal["default", "acceptEdits", "plan", "dontAsk", "auto", "bypassPermissions"],
        Field(
            description="`bypassPermissions` only where Claude Code was started so that it may.",
            examples=["acceptEdits"],
        ),
    ]


class ContextPart(BaseModel):
    """A part of the context."""

    name: Annotated[str, Field(examples=["Messages"])]
    tokens: int
    kind: Annotated[
        str,
        Field(description="`used`; `free`; `buffer`: kept for a compaction; `deferred`: listed, not in the context."),
    ]
    id: Annotated[str, Field(description="Such as `system_prompt`; empty: the release has none.")]


class Context(BaseModel):
    """What the model's context is full of."""

    model: str
    total_tokens: int
    max_tokens: int
    percentage: float
    auto_compact_at: Annotated[int | None, Field(description="Tokens at which the conversation is compacted.")]
    categories: list[ContextPart]
