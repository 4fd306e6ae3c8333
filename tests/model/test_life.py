"""The table of an instance's life, visited whole: every order in which three tasks can take every step. covers: L1"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest

from cc_bridge.instances.life import TABLE, Answer, Life, State, Step

_ENDS = (Step.STOP, Step.REMOVE, Step.RELEASE)


@dataclass(frozen=True)
class Task:
    """Somebody who wants a step: ``wants``, ``waits`` for the task that is in its step, ``in`` it, or ``done``."""

    step: Step
    at: str = "wants"
    is_cancelled: bool = False


@dataclass(frozen=True)
class World:
    """All that a future depends on. ``last`` is the step that ended last, and whether it failed."""

    tasks: tuple[Task, ...]
    state: State = State.RESTING
    before: State = State.RESTING
    last: tuple[Step, bool] | None = None

    def changed(self, number: int, task: Task, life: Life, **more: object) -> World:
        tasks = (*self.tasks[:number], task, *self.tasks[number + 1 :])
        return replace(self, tasks=tasks, state=life.state, before=life._before, **more)

    def life(self) -> Life:
        life = Life()
        life.state, life._before = self.state, self.before
        return life


def futures(world: World, asked: set[tuple[State, Step]]) -> list[World]:
    """What may happen next: somebody asks, or whoever is in a step leaves it, well or not."""
    found = []
    inside = next((number for number, task in enumerate(world.tasks) if task.at == "in"), None)
    for number, task in enumerate(world.tasks):
        life = world.life()
        if task.at == "wants":
            asked.add((world.state, task.step))
            match life.ask(task.step):
                case Answer.BEGIN:
                    life.begin(task.step)
                    found.append(world.changed(number, replace(task, at="in"), life))
                case Answer.WAIT:
                    found.append(world.changed(number, replace(task, at="waits"), life))
                case Answer.CANCEL:
                    assert inside is not None
                    waiting = world.changed(number, replace(task, at="waits"), life)
                    found.append(waiting.changed(inside, replace(world.tasks[inside], is_cancelled=True), life))
        elif task.at == "in":
            for failed in (True, False):  # one that is cancelled at its last line has succeeded
                life = world.life()
                life.end(failed=failed)
                left = world.changed(number, replace(task, at="done"), life, last=(task.step, failed))
                woken = tuple(replace(one, at="wants") if one.at == "waits" else one for one in left.tasks)
                found.append(replace(left, tasks=woken))
    return found


@pytest.mark.parametrize("start", [State.RESTING, State.READY, State.ASLEEP])
def test_every_order_of_three_steps(start: State) -> None:
    """One is under way at a time, nobody waits for ever, and after an end nothing is left of what was before it."""
    asked: set[tuple[State, Step]] = set()
    seen: set[World] = set()
    todo = [
        World(tuple(Task(step) for step in steps), start, start)
        for steps in itertools.combinations_with_replacement(Step, 3)
    ]
    while todo:
        world = todo.pop()
        if world in seen:
            continue
        seen.add(world)
        inside = [task for task in world.tasks if task.at == "in"]
        assert len(inside) <= 1, world
        assert (world.state in (State.RESTING, State.READY, State.ASLEEP)) == (not inside), world
        assert all(task.step is Step.START for task in world.tasks if task.is_cancelled), "an end was cut short"
        if world.last is not None and not inside:
            step, failed = world.last
            left = {Step.START: (State.READY,), Step.SLEEP: (State.RESTING, State.ASLEEP)}
            assert failed or world.state in left.get(step, (State.RESTING,)), world
            held = world.before is not State.RESTING
            assert failed or step is not Step.SLEEP or (world.state is State.ASLEEP) == held, world
        # Whoever ends it does not wait for a start that nobody has cancelled.
        if inside and inside[0].step is Step.START and not inside[0].is_cancelled:
            assert not any(task.at == "waits" and task.step in _ENDS for task in world.tasks), world
        after = futures(world, asked)
        assert after or all(task.at == "done" for task in world.tasks), f"nobody can go on: {world}"
        todo += after
    assert asked == {(state, step) for state in TABLE for step in Step}, "a line of the table was never asked"


def test_what_was_not_asked_for_does_not_begin() -> None:
    life = Life()
    life.begin(Step.STOP)
    with pytest.raises(RuntimeError, match="an instance that is stopping cannot start"):
        life.begin(Step.START)


def test_what_sleeps_is_ready_again_after_a_start() -> None:
    """covers: B7"""
    life = Life()
    for step, state in [(Step.START, State.READY), (Step.SLEEP, State.ASLEEP), (Step.START, State.READY)]:
        life.begin(step)
        life.end(failed=False)
        assert life.state is state
    life.begin(Step.SLEEP)
    life.end(failed=True)
    assert life.state is State.READY, "it was busy"
