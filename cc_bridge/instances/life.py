"""What an instance may do next: the table of its life. Sans-I/O.

A *step* starts, stops, removes or lets go of an instance, and one is under way at a time. Whoever wants one asks first
(:meth:`Life.ask`), and the table says whether it begins, waits for what is under way, or cancels that and waits for it.
"""

from __future__ import annotations

import enum

__all__ = ["TABLE", "Answer", "Life", "State", "Step"]


class Step(enum.Enum):
    """What starts or ends something."""

    START = "start"
    STOP = "stop"
    REMOVE = "remove"
    RELEASE = "release"
    SLEEP = "put to sleep"


class State(enum.Enum):
    """What is under way; if nothing is, what the last step has left.

    READY: connected, and Claude Code can be used, unless it has gone to sleep by itself since. ASLEEP: this program has
    put it to sleep; the next start wakes it. RESTING: this program holds nothing of the instance, which is new,
    stopped, removed, or another program's to use.
    """

    RESTING = "resting"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    REMOVING = "removing"
    RELEASING = "releasing"
    SLEEPING = "falling asleep"
    ASLEEP = "asleep"


class Answer(enum.Enum):
    """What whoever wants a step is to do."""

    BEGIN = "begin"
    WAIT = "wait until what is under way is over, and ask again"
    CANCEL = "cancel what is under way, wait until it is over, and ask again"


_UNDER_WAY = {
    Step.START: State.STARTING,
    Step.STOP: State.STOPPING,
    Step.REMOVE: State.REMOVING,
    Step.RELEASE: State.RELEASING,
    Step.SLEEP: State.SLEEPING,
}

_BEGINS = dict.fromkeys(Step, Answer.BEGIN)
_WAITS = dict.fromkeys(Step, Answer.WAIT)

#: The whole life. A start gives way to what ends it, because it may take as long as an image is built; what ends
#: something is never cancelled for another step, because half an end is neither. Whoever wants it to sleep lets a start
#: come to its end: it is then asked whether it is idle.
TABLE: dict[State, dict[Step, Answer]] = {
    State.RESTING: _BEGINS,
    State.READY: _BEGINS,  # a start, too: a connection breaks, and another reader has one of its own
    State.ASLEEP: _BEGINS,
    State.STARTING: {**dict.fromkeys(Step, Answer.CANCEL), Step.START: Answer.WAIT, Step.SLEEP: Answer.WAIT},
    State.STOPPING: _WAITS,
    State.REMOVING: _WAITS,
    State.RELEASING: _WAITS,
    State.SLEEPING: _WAITS,
}


class Life:
    """Where the instance of one object stands.

    Attributes:
        state: see :class:`State`.
    """

    def __init__(self) -> None:
        self.state = self._before = State.RESTING

    def ask(self, step: Step) -> Answer:
        """Whether the step can begin now."""
        return TABLE[self.state][step]

    def begin(self, step: Step) -> None:
        """It begins; :meth:`ask` has just said that it can."""
        if self.ask(step) is not Answer.BEGIN:
            raise RuntimeError(f"an instance that is {self.state.value} cannot {step.value}")
        self._before, self.state = self.state, _UNDER_WAY[step]

    def end(self, *, failed: bool) -> None:
        """What was under way is over. One that failed, or was cancelled, leaves what was before it."""
        if failed:
            self.state = self._before
        elif self.state is State.SLEEPING:  # one that this program did not hold it does not hold afterwards
            self.state = State.RESTING if self._before is State.RESTING else State.ASLEEP
        else:
            self.state = State.READY if self.state is State.STARTING else State.RESTING
