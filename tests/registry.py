"""A registry on the loopback with one small image in it: enough for a real pull."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _layer(size: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        header = tarfile.TarInfo("content")
        header.size = size
        archive.addfile(header, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()


@contextmanager
def registry(size: int = 3_000_000) -> Iterator[str]:
    """Serves; the image's name."""
    plain = _layer(size)
    layer = gzip.compress(plain, 1)
    root = {"type": "layers", "diff_ids": [_digest(plain)]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()

    def named(kind: str, data: bytes) -> dict[str, object]:
        return {"mediaType": f"application/vnd.docker.{kind}", "size": len(data), "digest": _digest(data)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": named("container.image.v1+json", config),
            "layers": [named("image.rootfs.diff.tar.gzip", layer)],
        }
    ).encode()
    blobs = {_digest(data): data for data in (layer, config, manifest)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            what = self.path.rpartition("/")[2]
            data = manifest if what == "1" else blobs.get(what, b"{}")
            known = self.path == "/v2/" or what == "1" or what in blobs
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", _MANIFEST if data == manifest else "application/octet-stream")
            self.send_header("Docker-Content-Digest", _digest(data))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815  the library's word

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}/tiny:1"
        server.shutdown()
        thread.join()
