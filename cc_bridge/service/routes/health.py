"""Whether the service lives, and whether it takes commands."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response, status

from ..schemas import Health
from .common import TheService

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=Health)
async def health(service: TheService) -> dict[str, Any]:
    """It lives."""
    return _health(service)


@router.get("/readyz", response_model=Health, responses={503: {"model": Health}})
async def readiness(service: TheService, response: Response) -> dict[str, Any]:
    """It takes commands; 503 before it has begun and when it stops."""
    if not service.is_ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return _health(service)


def _health(service: TheService) -> dict[str, Any]:
    status_now = "stopping" if service.stopping.is_set() else "ok"
    return {"status": status_now, "awake": service.fleet.awake}
