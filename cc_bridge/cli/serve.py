"""``cc-bridge serve``: a fleet over HTTP."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from ..errors import BridgeError, InvalidInput
from . import options as o
from .parameters import Option
from .session import report

if TYPE_CHECKING:
    from ..config import Config
    from ..fleet import Fleet
    from ..service.observer import Observer
    from ..service.openid import OpenId
    from ..service.service import Limits

__all__ = ["openid_of", "serve"]

_DEFAULT_PORT = 8765

#: The variable with the secret that the identity provider knows.
_SECRET = "CC_BRIDGE_OIDC_CLIENT_SECRET"  # noqa: S105  its name


def serve(
    host: Annotated[
        str | None, Option("--host", metavar="ADDRESS", help="Where to listen; by default 127.0.0.1, for this machine.")
    ] = None,
    port: Annotated[
        int | None,
        Option("--port", "-p", metavar="PORT", min=0, help=f"{_DEFAULT_PORT} by default; 0: any that is free."),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        Option("--host-name", metavar="NAME", help="By which clients may call it; may be repeated."),
    ] = None,
    database: Annotated[
        str | None,
        Option("--database", metavar="URL", help="sqlite:////PATH or postgresql://…; by default a file of its own."),
    ] = None,
    on: Annotated[
        str, Option("--on", metavar="WHERE", help="Of the template `default`: docker, swarm or local.")
    ] = "docker",
    name: Annotated[str, Option("--name", metavar="NAME", help="Of the fleet; each is one service's.")] = "service",
    metrics: Annotated[
        bool | None, Option("--metrics/--no-metrics", help="/metrics for Prometheus (cc-bridge[metrics]).")
    ] = None,
    traces_to: Annotated[
        str | None, Option("--traces-to", metavar="URL", help="An OpenTelemetry collector (cc-bridge[otel]).")
    ] = None,
    private_webhooks: Annotated[
        bool, Option("--private-webhooks", help="Webhooks may go to this machine and to private networks.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Serve instances over HTTP, with a page for people, until Ctrl-C or SIGTERM.

    What runs in instances then goes on, and the next `serve` goes on with it. The first start makes a token, in a file
    for you alone; it is needed for everything. Templates, budgets and limits are those of `cc-bridge.toml`, whose table
    `[service]` has what is not said here.
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
    from .configuration import load_config

    async def main() -> None:
        config = load_config()
        given = {"host": host, "port": port, "host_names": host_name, "database": database}
        wanted = _Wanted.of(config.service, {**given, "metrics": metrics, "traces_to": traces_to})
        directory = state_root() / "service"
        await anyio.to_thread.run_sync(make_private, directory)
        if not is_loopback(wanted.host) and not wanted.host_names:
            what = f"{wanted.host} is reached from other machines, and nobody has said by which name"
            raise InvalidInput(what, hint="Add `--host-name NAME`, and have a proxy in front that speaks TLS.")
        token_file = directory / "token"
        service = Service(
            Store.open(wanted.database or f"sqlite:///{directory / 'service.db'}"),
            _fleet(config, name, on),
            token_file=token_file,
            hosts=wanted.host_names,
            limits=_limits(config.service),
            webhooks_to_private=private_webhooks or config.service.get("webhooks_to_private", False),
            observers=wanted.observers(by_project=config.service.get("metrics_by_project", False)),
            openid=openid_of(config.service.get("oidc"), wanted.host_names),
        )
        listening = listen(wanted.host, wanted.port)
        called = wanted.host_names[0] if wanted.host_names else _shown(wanted.host)
        address = f"http://{called}:{listening.getsockname()[1]}/"
        await run_server(service, listening, lambda: _say(address, token_file, as_json=as_json))

    try:
        anyio.run(main)
    except BridgeError as error:
        sys.exit(report(error))
    except KeyboardInterrupt:
        sys.exit(130)


@dataclass(frozen=True)
class _Wanted:
    """The command line's word, else the file's, else what holds without both."""

    host: str = "127.0.0.1"
    port: int = _DEFAULT_PORT
    host_names: tuple[str, ...] = ()
    database: str = ""
    metrics: bool = False
    traces_to: str = ""

    @classmethod
    def of(cls, configured: Mapping[str, Any], given: Mapping[str, Any]) -> _Wanted:
        said = {name: value for name, value in given.items() if value is not None}
        found = {**{name: value for name, value in configured.items() if name in given}, **said}
        found["host_names"] = tuple(name.lower() for name in found.get("host_names", ()))
        return cls(**found)

    def observers(self, *, by_project: bool) -> list[Observer]:
        """Who watches; what it takes is not loaded where nobody does."""
        found: list[Observer] = []
        try:
            if self.metrics:
                from ..service.metrics import Metrics

                found.append(Metrics(by_project=by_project))
            if self.traces_to:
                from ..service.tracing import Tracing

                found.append(Tracing(self.traces_to))
        except ModuleNotFoundError as error:
            extra = "metrics" if self.metrics and not found else "otel"
            hint = f"pip install 'cc-bridge[{extra}]' brings it."
            raise InvalidInput(f"{error.name} is not installed", hint=hint) from None
        return found


def openid_of(configured: Mapping[str, Any] | None, host_names: tuple[str, ...]) -> OpenId | None:
    """Where people sign in; None: nobody has said it, and nothing of it is loaded.

    Args:
        configured: the table ``[service.oidc]``.
        host_names: by which clients may call the service.

    Raises:
        InvalidInput: the secret cannot be read, the service has another name, or what it takes is not installed.
    """
    secret = os.environ.pop(_SECRET, "")  # taken out, so that no Claude Code inherits it
    if configured is None:
        return None
    from ..service.server import is_loopback
    from .configuration import read_text

    try:
        from ..service.openid import OpenId, Settings
    except ModuleNotFoundError as error:
        hint = "pip install 'cc-bridge[oidc]' brings it."
        raise InvalidInput(f"{error.name} is not installed", hint=hint) from None
    secret = secret or configured.get("client_secret", "")
    if not secret and (file := configured.get("client_secret_file")):
        secret = read_text(Path(file)).strip()
        if not secret:
            raise InvalidInput(f"{file} is empty", hint="The identity provider shows a client's secret once.")
    host = urlsplit(configured["public_url"]).hostname or ""
    if host not in {name.lower() for name in host_names} and not is_loopback(host):
        what = f"people are to come back to {configured['public_url']}, and this service is not called {host}"
        raise InvalidInput(what, hint=f"Add `--host-name {host}`.")
    return OpenId(Settings.of(configured, secret))


def _limits(configured: Mapping[str, Any]) -> Limits:
    from ..service.service import Limits

    names = {"largest_body": "body", "largest_upload": "upload", "longest_wait": "longest_wait"}
    return Limits(**{ours: configured[name] for name, ours in names.items() if name in configured})


def _fleet(config: Config, name: str, on: str) -> Fleet:
    from ..config import record_fields
    from ..fleet import Fleet, Template

    if on not in ("docker", "local", "swarm"):
        raise InvalidInput(f"--on {on}: a service's instances are in docker or a swarm, or local")
    options = config.fleet_options()
    defaults: dict[str, Any] = record_fields(config.defaults)
    plain = {"kind": "local"} if on == "local" else {"kind": on, "image": "auto"}
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
