"""What requests and responses look like, for checks and for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Health",
    "Instance",
    "Instances",
    "NewCommand",
    "NewInstance",
    "ProblemBody",
    "Retitled",
    "Turn",
    "Turns",
]

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$", examples=["work"])]
_Title = Annotated[str, Field(max_length=200, examples=["Invoices"])]


class _Body(BaseModel):
    """A request's: what it does not know is an error, and no surprise later."""

    model_config = ConfigDict(extra="forbid")


class TextBlock(_Body):
    """Text of a prompt."""

    type: Literal["text"]
    text: str


class FileBlock(_Body):
    """An image (PNG, JPEG, GIF, WebP) or a document (PDF, text) that goes with a prompt.

    ``data`` is base64 of at most 16 MiB.
    """

    type: Literal["image", "document"]
    data: str
    title: Annotated[str, Field(max_length=1000)] = ""


Prompt = str | Annotated[list[Annotated[TextBlock | FileBlock, Field(discriminator="type")]], Field(max_length=100)]


class NewCommand(_Body):
    """A command: text, or content blocks."""

    prompt: Annotated[Prompt, Field(examples=["What is in this directory?"])]

    def plain(self) -> Any:
        """The prompt as JSON types."""
        return self.model_dump(mode="json", exclude_defaults=True)["prompt"]


class NewInstance(_Body):
    """An instance to be made from a template of the configuration."""

    name: Name
    template: Annotated[str, Field(max_length=100, examples=["default"])]
    title: _Title = ""
    labels: Annotated[dict[str, str], Field(max_length=50)] = {}
    project: Annotated[str, Field(max_length=100)] | None = None


class Retitled(_Body):
    """What people call an instance."""

    title: _Title


class Instance(BaseModel):
    """An instance, and what it does at the moment."""

    name: str
    title: Annotated[str, Field(description="What people call it; empty: by its name.")]
    kind: Literal["docker", "local", "tmux", "swarm"]
    project: str
    labels: dict[str, str]
    created: str
    state: Annotated[
        Literal["busy", "permission", "idle", "asleep"],
        Field(description="It answers; it waits for a permission; it waits for a command; the next command starts it."),
    ]
    turn: Annotated[str | None, Field(description="The turn that it has.")]
    waiting: Annotated[int, Field(description="How many commands wait for that one.")]
    permissions: Annotated[list[str], Field(description="Ids of the requests that wait for a decision.")]


class Instances(BaseModel):
    """All that the caller sees."""

    instances: list[Instance]


class Turn(BaseModel):
    """A command, and what became of it."""

    id: str
    instance: str
    number: Annotated[int, Field(description="Counts the commands in the order of their acceptance.")]
    state: Annotated[
        Literal["stored", "sent", "running", "ended"],
        Field(description="It waits here; it was given to the instance; Claude Code has it; it has its result."),
    ]
    position: Annotated[int | None, Field(description="How many come before it; null: it has ended.")]
    prompt: Any
    created: str
    result: Annotated[dict[str, Any] | None, Field(description="The event `turn_result`, once it has ended.")]


class Turns(BaseModel):
    """Some turns of an instance, oldest first."""

    turns: list[Turn]


class Health(BaseModel):
    """How the service is."""

    status: Literal["ok", "stopping"]
    awake: int


class ProblemBody(BaseModel):
    """A problem (RFC 9457). ``type`` is one of few words after ``urn:cc-bridge:``; ``hint`` says what to do."""

    type: str
    title: str
    status: int
    detail: str
    hint: str | None = None
    instance_name: str | None = None
