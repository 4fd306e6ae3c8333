"""``cc-bridge serve``: a fleet over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import BridgeError, InvalidInput
from . import options as o
from .parameters import Option
from .session import report

if TYPE_CHECKING:
    from ..fleet import Fleet

__all__ = ["serve"]

_DEFAULT_PORT = 8765


def serve(
    host: Annotated[str, Option("--host", metavar="ADDRESS", help="Where to listen; by default for this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, Option("--port", "-p", metavar="PORT", min=0, help="0: any that is free.")] = _DEFAULT_PORT,
    host_name: Annotated[
        list[str] | None,
        Option("--host-name", metavar="NAME", help="By which clients may call it; may be repeated."),
    ] = None,
    database: Annotated[
        str | None,
        Option("--database", metavar="URL", help="sqlite:////PATH or postgresql://…; by default a file of its own."),
    ] = None,
    on: Annotated[str, Option("--on", metavar="WHERE", help="Of the template `default`: docker or local.")] = "docker",
    name: Annotated[str, Option("--name", metavar="NAME", help="Of the fleet; each is one service's.")] = "service",
    private_webhooks: Annotated[
        bool, Option("--private-webhooks", help="Webhooks may go to private addresses, this machine's among them.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Serve instances over HTTP, with a page for people, until Ctrl-C or SIGTERM.

    What runs in instances then goes on, and the next `serve` goes on with it. The first start makes a token, in a file
    for you alone; it is needed for everything. Templates, budgets and limits are those of `cc-bridge.toml`.
    """
    import ssl  # noqa: F401  for whoever needs it: databases and webhooks

    try:
        import anyio

        from ..service.server import is_loopback, listen
        from ..service.server import serve as run_server
        from ..service.service import Service
        from ..service.store import Store
    except ModuleNotFoundError as error:
        missing = InvalidInput(f"`serve` needs {error.name}", hint="pip install 'cc-bridge[service]' brings it.")
        sys.exit(report(missing))
    from ..state import make_private, state_root

    async def main() -> None:
        directory = state_root() / "service"
        await anyio.to_thread.run_sync(make_private, directory)
        names = [given.lower() for given in host_name or ()]
        if not is_loopback(host) and not names:
            what = f"{host} is reached from other machines, and nobody has said by which name"
            raise InvalidInput(what, hint="Add `--host-name NAME`, and have a proxy in front that speaks TLS.")
        token_file = directory / "token"
        store = Store.open(database or f"sqlite:///{directory / 'service.db'}")
        service = Service(
            store, _fleet(name, on), token_file=token_file, hosts=names, webhooks_to_private=private_webhooks
        )
        listening = listen(host, port)
        address = f"http://{names[0] if names else _shown(host)}:{listening.getsockname()[1]}/"
        await run_server(service, listening, lambda: _say(address, token_file, as_json=as_json))

    try:
        anyio.run(main)
    except BridgeError as error:
        sys.exit(report(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _fleet(name: str, on: str) -> Fleet:
    from ..config import record_fields
    from ..fleet import Fleet, Template
    from .configuration import load_config

    if on not in ("docker", "local"):
        raise InvalidInput(f"--on {on}: a service's instances are in docker, or local")
    config = load_config()
    options = config.fleet_options()
    defaults: dict[str, Any] = record_fields(config.defaults)
    plain = {"kind": "docker", "image": "auto"} if on == "docker" else {"kind": "local"}
    templates = {"default": Template({**plain, **defaults}, spares=0)}
    for template_name, item in config.templates.items():
        templates[template_name] = Template({"kind": "docker", **record_fields(item.fields)}, item.spares)
    return Fleet(name=name, **{**options, "templates": templates})


def _say(address: str, token_file: Path, *, as_json: bool) -> None:
    if as_json:
        from .display import print_json

        print_json({"address": address, "token_file": str(token_file)}, lines=True)
        return
    print(f"cc-bridge serves at {address}", flush=True)
    if token_file.exists():
        print(f"The first token is in {token_file}", flush=True)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
