"""Which way next: every case. covers: C11, C13, B10"""

from __future__ import annotations

import itertools

import pytest

from cc_bridge.channels.ladder import Facts, Rung, next_rung

FLAGS = ("shares_kernel", "pipes_failed", "attach_failed", "agent_started", "python_missing")


@pytest.mark.parametrize(
    ("facts", "rung"),
    [
        (Facts(), Rung.PIPES),
        (Facts(shares_kernel=False), Rung.ATTACH),
        (Facts(pipes_failed=True), Rung.ATTACH),
        (Facts(pipes_failed=True, attach_failed=True), Rung.START_AGENT),
        (Facts(shares_kernel=False, attach_failed=True), Rung.START_AGENT),
        (Facts(agent_started=True), Rung.PIPES),
        (Facts(pipes_failed=True, agent_started=True), Rung.ATTACH),
        (Facts(pipes_failed=True, attach_failed=True, agent_started=True), Rung.GIVE_UP),
    ],
)
def test_the_next_rung(facts: Facts, rung: Rung) -> None:
    assert next_rung(facts) is rung


@pytest.mark.parametrize("values", list(itertools.product([False, True], repeat=4)))
def test_without_python_there_is_one_way(values: tuple[bool, ...]) -> None:
    facts = Facts(**dict(zip(FLAGS[:4], values, strict=True)), python_missing=True)
    assert next_rung(facts) is Rung.DIRECT


@pytest.mark.parametrize("values", list(itertools.product([False, True], repeat=5)))
def test_it_ends(values: tuple[bool, ...]) -> None:
    """Whatever fails, a few steps lead to a way or to giving up."""
    facts = Facts(**dict(zip(FLAGS, values, strict=True)))
    for _ in range(8):
        match next_rung(facts):
            case Rung.PIPES:
                facts.pipes_failed = True
            case Rung.ATTACH:
                facts.attach_failed = True
            case Rung.START_AGENT:
                facts.agent_started = True
                facts.pipes_failed = facts.attach_failed = False
            case Rung.DIRECT | Rung.GIVE_UP:
                return
    pytest.fail("it goes on for ever")
