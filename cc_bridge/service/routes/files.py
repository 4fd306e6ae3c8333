"""Files of an instance's workspace: listed, fetched and put."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, status

from ...errors import InvalidInput
from ..attachments import Attachment
from ..container_workspace import Found
from ..guards import Commander, Reader, seen
from ..instance_schemas import Entry, Listing
from ..service import Service
from ..workspace import Workspace, parts_of, workspace_of
from .audit import describe
from .common import PROBLEMS, InstanceName, TheService

__all__ = ["router"]

router = APIRouter(prefix="/v1/instances/{name}/files", tags=["files"], responses=PROBLEMS)

_ABOUT_PATH = "From the workspace; it leads over no link."
_Path = Annotated[str, Query(min_length=1, max_length=4096, description=_ABOUT_PATH, examples=["out/report.pdf"])]
_BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.get("", response_model=Listing)
async def list_files(
    service: TheService,
    who: Reader,
    name: InstanceName,
    path: Annotated[str, Query(max_length=4096, description=_ABOUT_PATH, examples=["out"])] = "",
) -> dict[str, Any]:
    """A directory of the workspace; by default the workspace itself."""
    seen(service, who, name)
    parts = parts_of(path)
    found, truncated = await (await _workspace(service, name)).entries(parts)
    return {"path": "/".join(parts), "entries": [_entry(parts, item) for item in found], "truncated": truncated}


@router.get("/content", response_class=Response, responses={200: {"content": _BYTES, "description": "The file"}})
async def fetch_file(service: TheService, who: Reader, name: InstanceName, path: _Path) -> Response:
    """A file, whole. It is always an attachment of a neutral type: nobody knows what is in it."""
    seen(service, who, name)
    parts = _file(path)
    content, size = await (await _workspace(service, name)).open(parts)
    return Attachment(content, size, parts[-1])


@router.put(
    "/content",
    response_model=Entry,
    responses={201: {"model": Entry, "description": "It is new"}},
    openapi_extra={"requestBody": {"required": False, "content": _BYTES}},
)
async def put_file(
    request: Request, response: Response, service: TheService, who: Commander, name: InstanceName, path: _Path
) -> dict[str, Any]:
    """Write a file, whole or not at all; the body is what is in it. Directories are made where they are missing."""
    seen(service, who, name)
    parts = _file(path)
    workspace = await _workspace(service, name)
    describe(request, name, path="/".join(parts)[:1000])
    found, is_new = await workspace.write(parts, request.stream())
    if is_new:
        response.status_code = status.HTTP_201_CREATED
    return _entry(parts[:-1], found)


async def _workspace(service: Service, name: str) -> Workspace:
    return await workspace_of(service.fleet.open(name), service.limits.upload)


def _file(path: str) -> tuple[str, ...]:
    parts = parts_of(path)
    if not parts or path.endswith("/"):
        raise InvalidInput("this is the path of a directory", hint="Name a file in it.")
    return parts


def _entry(directory: tuple[str, ...], found: Found) -> dict[str, Any]:
    return {
        "name": _text(found.name),
        "path": _text("/".join((*directory, found.name))),
        "kind": found.kind,
        "size": found.size,
        "modified": found.modified.isoformat() if found.modified else None,
    }


def _text(name: str) -> str:
    """A name as text, also where its bytes are none."""
    return name.encode("utf-8", "replace").decode()
