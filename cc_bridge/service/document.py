"""The OpenAPI document: what the routes do not say by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["complete"]

_PROBLEM = "application/problem+json"

#: What anybody may ask, without a token: whether it lives. And how a browser signs in.
_OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
_SIGN_IN = ("/v1/session", "post")


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Say that a token is needed, and that what fails is a problem and nothing else. Harmless when repeated."""
    document.setdefault("components", {})["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "`ccb_…`, as `POST /v1/tokens` shows it once."}
    }
    document["security"] = [{"token": []}]
    for path, method, operation in _operations(document):
        if path in _OPEN or (path, method) == _SIGN_IN:
            operation["security"] = []
        for response in operation["responses"].values():
            content = response.get("content", {})
            if _PROBLEM in content and "application/json" in content:
                content[_PROBLEM] = content.pop("application/json")
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation
