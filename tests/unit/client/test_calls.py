"""What is asked of the service, what its answers mean, and how often it is asked again."""

from __future__ import annotations

import inspect
import json

import httpx
import pytest

from cc_bridge.client import AsyncClient, Client, ServiceError, ServiceUnreachable
from cc_bridge.client.calls import Patience, answer, checked, command, of

AWAY = httpx.ConnectError("connection refused")


def test_names_are_parts_of_a_path_and_nothing_else() -> None:
    assert of("GET", "instances", "../x?y", "files", path="a b", limit=None).path == "/v1/instances/..%2Fx%3Fy/files"


def test_parameters_are_texts() -> None:
    call = of("DELETE", "instances", "a", conversation=True, before=3, path=None)
    assert call.params == {"conversation": "true", "before": "3"}
    assert not call.again
    assert of("GET", "instances").again


@pytest.mark.parametrize(
    ("wait", "prefer"), [(0.0, None), (-1.0, None), (0.2, "wait=1"), (60.0, "wait=60"), (1e9, "wait=600")]
)
def test_a_command_has_a_key_and_says_how_long_to_wait(wait: float, prefer: str | None) -> None:
    call = command("a", "hello", "key", wait)
    assert (call.headers["Idempotency-Key"], call.headers.get("Prefer"), call.again) == ("key", prefer, True)


def test_an_answer_has_what_was_said_only() -> None:
    call = answer("id", "deny", rule=None, reason="no", changed=None)
    assert (call.path, call.body) == ("/v1/permissions/id", {"answer": "deny", "reason": "no"})
    assert not call.again


class TestAnswers:
    def test_a_problem_says_what_it_is(self) -> None:
        problem = {
            "type": "urn:cc-bridge:InstanceNotFound",
            "detail": "no such",
            "hint": "make it",
            "instance_name": "a",
        }
        response = httpx.Response(
            404, headers={"Content-Type": "application/problem+json"}, content=json.dumps(problem).encode()
        )
        with pytest.raises(ServiceError) as caught:
            checked(response)
        error = caught.value
        assert (error.status, error.kind, error.what, error.hint, error.instance) == (
            404,
            "InstanceNotFound",
            "no such",
            "make it",
            "a",
        )
        assert error.problem == problem

    @pytest.mark.parametrize("content", [b"<h1>Bad gateway</h1>", b"", b"{", b"[]"])
    def test_what_a_proxy_says_is_shown_in_part(self, content: bytes) -> None:
        for kind in ("text/html", "application/problem+json"):
            with pytest.raises(ServiceError, match="502"):
                checked(httpx.Response(502, headers={"Content-Type": kind}, content=content * 100))


class TestPatience:
    def test_pauses_grow_to_a_longest_one(self) -> None:
        patience = Patience(60)
        pauses = [patience.pause(AWAY, 0) for _ in range(8)]
        assert pauses == sorted(pauses)
        assert (pauses[0], pauses[-1]) == (0.1, 5.0)

    def test_it_ends(self) -> None:
        patience = Patience(60)
        patience.pause(AWAY, 100)
        patience.pause(AWAY, 159)
        with pytest.raises(ServiceUnreachable, match="connection refused"):
            patience.pause(AWAY, 160)

    def test_an_answer_begins_it_anew(self) -> None:
        patience = Patience(60)
        patience.pause(AWAY, 0)
        patience.rewarded()
        assert patience.pause(AWAY, 1000) == 0.1

    def test_without_any_the_first_failure_is_the_last(self) -> None:
        with pytest.raises(ServiceUnreachable):
            Patience(0).pause(AWAY, 0)

    @pytest.mark.parametrize("status", [502, 503, 504])
    def test_a_service_that_is_away_is_asked_again_and_at_last_says_why(self, status: int) -> None:
        error, patience = ServiceError(status, {"detail": "away"}), Patience(10)
        assert patience.pause(error, 0) > 0
        with pytest.raises(ServiceError, match="away"):
            patience.pause(error, 10)

    @pytest.mark.parametrize("status", [401, 404, 409, 422, 429, 500])
    def test_what_was_refused_is_not_asked_again(self, status: int) -> None:
        with pytest.raises(ServiceError):
            Patience(60).pause(ServiceError(status, {}), 0)


def public(kind: type) -> dict[str, list[str]]:
    names = {name: member for name, member in vars(kind).items() if callable(member) and not name.startswith("_")}
    return {
        name.replace("aclose", "close"): list(inspect.signature(member).parameters) for name, member in names.items()
    }


def test_both_clients_do_the_same() -> None:
    assert public(Client) == public(AsyncClient)
