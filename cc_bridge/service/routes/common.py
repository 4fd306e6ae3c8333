"""What all routes share."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Path, Request

from ..schemas import ProblemBody
from ..service import Service

__all__ = ["PROBLEMS", "InstanceName", "TheService", "TurnId", "the_service"]


def the_service(request: Request) -> Service:
    """The one that the application was made for."""
    return cast(Service, request.app.state.service)


TheService = Annotated[Service, Depends(the_service)]
InstanceName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$", examples=["work"])]
TurnId = Annotated[str, Path(pattern=r"^[0-9a-fA-F-]{36}$", examples=["3f0c7d52-6f0e-4a43-9df4-6ad57c1f6c11"])]

#: For the OpenAPI document: whatever fails, fails like this.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {"model": ProblemBody, "description": "A problem", "content": {"application/problem+json": {}}}
}
