"""An event loop without ssl, and ssl for whoever wants it afterwards. covers: P5"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from cc_bridge.cli.without_tls import import_anyio
import_anyio()
print("ssl" in sys.modules)
import anyio, anyio.streams.tls
anyio.run(anyio.sleep, 0)
print(anyio.streams.tls.ssl.create_default_context.__module__)
import ssl, docker.tls
print(ssl.__name__, hasattr(ssl, "SSLContext"), ssl.SSLContext is anyio.streams.tls.ssl.SSLContext)
"""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_ssl_is_loaded_when_it_is_used() -> None:
    assert run(PROGRAM) == "False\nssl\nssl True False\n"


def test_what_is_there_already_stays() -> None:
    before = "import ssl; from cc_bridge.cli.without_tls import import_anyio; import_anyio(); import asyncio.sslproto"
    assert run(f"{before}; print(asyncio.sslproto.ssl is ssl)") == "True\n"
