"""The service as an ASGI application: routes, and errors as problems."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from .. import __version__
from ..errors import BridgeError
from .document import complete
from .gate import Gate
from .guards import NotSignedIn
from .page.routes import SignIn, page_router
from .page.source import ServiceSource
from .problems import Problem, problem_of, stranger
from .routes import (
    audit,
    commands,
    conversations,
    events,
    files,
    health,
    instances,
    permissions,
    sessions,
    settings,
    tokens,
    turns,
    usage,
    webhooks,
)
from .routes.audit import AUDITED
from .service import Service

__all__ = ["make_app"]

#: Faults of one request that are named.
_MOST_NAMED = 20

_ABOUT = """\
Conversations with Claude Code, each in an instance of its own: in a container, a pane or a process.

A command is stored before it is acknowledged, and answered once. What an instance says is a stream of server-sent
events, each with an id; a client that comes back with the last one (`Last-Event-ID`) misses nothing. Errors are
problems (RFC 9457) with a hint.
"""


def make_app(service: Service) -> FastAPI:
    """The application; the service is in use as long as it is served."""
    app = FastAPI(
        title="cc-bridge",
        version=__version__,
        description=_ABOUT,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # their scripts come from other hosts
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # what clients that are generated call it
    )
    app.state.service = service
    for module in (instances, commands, turns, permissions, files, conversations, settings, tokens, webhooks):
        app.include_router(module.router, dependencies=[AUDITED])
    for module in (events, usage, health, sessions, audit):
        app.include_router(module.router)
    if (openid := service.openid) is None:
        app.include_router(page_router(ServiceSource(service)))
    else:
        from .routes.oidc import sign_in_router  # takes what is not there unless it is wanted

        own = openid.settings
        app.include_router(sign_in_router(service, openid))
        sign_in = SignIn(own.name or urlsplit(own.issuer).hostname or "", f"{own.public_url}/oidc/sign-in")
        app.include_router(page_router(ServiceSource(service), sign_in))
    app.add_exception_handler(BridgeError, _on_bridge_error)
    app.add_exception_handler(NotSignedIn, _on_stranger)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_mistake)
    app.add_middleware(Gate, service=service)
    for observer in service.observers:
        if observer.router is not None:
            app.include_router(observer.router)
        app.add_middleware(observer.around)
    described = app.openapi
    app.openapi = lambda: complete(described())  # type: ignore[method-assign]
    return app


async def _on_bridge_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BridgeError)
    problem = problem_of(error)
    if problem.instance and (name := request.path_params.get("name")):
        problem = replace(problem, instance=name)  # the library may know it by the name that it had as a spare
    return problem.response()


async def _on_stranger(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotSignedIn)
    return stranger(error.what)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        {"where": ".".join(map(str, fault["loc"])), "what": fault["msg"]} for fault in error.errors()[:_MOST_NAMED]
    ]
    what = "; ".join(f"{fault['where']}: {fault['what']}" for fault in faults)
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidInput", what, more={"errors": faults}).response()


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return Problem(error.status_code, "http", str(error.detail)).response(headers)


def _methods(request: Request) -> set[str]:
    """What can be done with this address, by all routes together; the error knows of the first only."""
    found = set()
    for route in cast(FastAPI, request.app).routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= set(getattr(route, "methods", ()))
    return found


async def _on_mistake(request: Request, error: Exception) -> Response:
    """Ours; the server's log has it."""
    what = "the service has made a mistake; its log says which"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "mistake", what).response()
