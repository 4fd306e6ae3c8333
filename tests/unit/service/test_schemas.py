"""The OpenAPI document: complete, with examples that fit, and the same as its page. covers: B13"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from cc_bridge.service.app import make_app

PROJECT = Path(__file__).parents[3]

OPEN = {"/healthz", "/readyz", "/metrics"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_app(cast(Any, SimpleNamespace(observers=(), openid=None))).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def schemas(item: Any) -> Iterator[dict[str, Any]]:
    """All that have examples, wherever they stand."""
    if isinstance(item, dict):
        if isinstance(item.get("examples"), list):
            yield item
        for inner in item.values():
            yield from schemas(inner)
    elif isinstance(item, list):
        for inner in item:
            yield from schemas(inner)


def test_it_is_openapi_3_1_with_a_versioned_path(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert {path for path in document["paths"] if not path.startswith("/v1/")} <= OPEN


def test_every_operation_says_what_it_does_and_how_it_fails(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation.get("description"), (method, path)
        assert operation.get("tags"), (method, path)
        if path not in OPEN:
            problem = operation["responses"]["default"]["content"]
            assert problem == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = Counter(operation["operationId"] for _, _, operation in operations(document))
    assert not [name for name, number in names.items() if number > 1]
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


def test_a_token_is_needed_but_for_signing_in_and_asking_whether_it_lives(document: dict[str, Any]) -> None:
    assert document["security"] == [{"token": []}]
    free = {(path, method) for path, method, operation in operations(document) if operation.get("security") == []}
    assert free == {(path, "get") for path in OPEN & set(document["paths"])} | {("/v1/session", "post")}


def test_examples_fit(document: dict[str, Any]) -> None:
    found = list(schemas(document))
    assert len(found) > 20
    for schema in found:
        whole = {**schema, "components": document["components"]}
        for example in schema["examples"]:
            Draft202012Validator(whole).validate(example)


def test_every_shape_and_what_is_not_plain_in_it_is_explained(document: dict[str, Any]) -> None:
    silent = [name for name, schema in document["components"]["schemas"].items() if not schema.get("description")]
    assert not silent


def test_the_page_is_the_documents(document: dict[str, Any]) -> None:
    """`.venv/bin/python scripts/http_api` writes it anew."""
    argv = [sys.executable, str(PROJECT / "scripts" / "http_api"), "--print"]
    made = subprocess.run(argv, capture_output=True, check=True).stdout.decode()
    assert (PROJECT / "docs" / "reference" / "http-api.md").read_text() == made
    for path, method, _ in operations(document):
        assert f"### `{method.upper()} {path}`\n" in made


def test_links_of_the_page_lead_somewhere() -> None:
    page = (PROJECT / "docs" / "reference" / "http-api.md").read_text()
    headings = Counter(
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    )
    wanted = set(re.findall(r"\]\(#([^)]+)\)", page))
    assert wanted
    assert not [name for name in wanted if headings[name] != 1]
