"""The configuration file ``cc-bridge.toml``: text in, values out. Sans-I/O.

docs/reference/configuration.md explains the keys.

A file is checked as a whole: all mistakes are named at once, each with the key that has it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config_values import (
    Wrong,
    a_count,
    a_flag,
    a_limit,
    a_number,
    a_port,
    a_secure_address,
    a_size,
    a_table,
    a_text,
    a_web_address,
    an_origin,
    one_of,
    ports,
    seconds,
    texts,
    words,
)
from .errors import InvalidInput
from .kinds import without_meaningless
from .names import NAME

__all__ = ["KEYS", "Config", "ConfiguredTemplate", "parse_config", "record_fields"]

#: Characters of a file, and mistakes that are named.
_LONGEST = 1024 * 1024
_MOST_NAMED = 20

#: Seconds for which a person may stay signed in.
_LONGEST_SESSION = 30 * 86400

Checks = dict[str, Callable[[Any], Any]]

_CLAUDE: Checks = {
    "program": a_text,
    "model": a_text,
    "system_prompt": a_text,
    "append_system_prompt": a_text,
    "allowed_tools": texts,
    "disallowed_tools": texts,
    "permission_mode": a_text,
    "skip_permissions": a_flag,
    "mcp_config": texts,
    "extra": texts,
}
_API_LIMITS: Checks = {
    "at_once": a_count,
    "requests_per_minute": a_count,
    "bytes_per_day": a_size,
    "tokens_per_day": a_count,
    "usd_per_day": a_number,
}
_RULES: Checks = {"allow": texts, "ask": texts, "deny": texts}

#: Fields of a record that are not one instance's own.
_RECORD: Checks = {
    "kind": one_of("docker", "local", "tmux", "swarm"),
    "image": a_text,
    "dockerfile": a_text,
    "workspace": a_text,
    "mount_at": a_text,
    "read_only_workspace": a_flag,
    "mounts": texts,
    "env": a_table,
    "network": a_text,
    "memory": a_size,
    "cpus": a_number,
    "cpu_shares": a_count,
    "pids": a_count,
    "ports": ports,
    "restart": a_text,
    "writable": a_flag,
    "docker_socket": a_flag,
    "constraints": texts,
    "spread": texts,
    "reserve_memory": a_size,
    "reserve_cpus": a_number,
    "most_in_project": a_count,
    "workspace_volume": a_text,
    "volume_driver": a_text,
    "volume_options": a_table,
    "credentials": a_flag,
    "user": a_text,
    "sealed": a_flag,
    "allow_hosts": texts,
    "key": one_of("inside", "outside"),
    "key_command": a_text,
    "key_file": a_text,
    "api_limits": lambda value: value,
    "labels": a_table,
    "project": a_text,
    "tmux": a_flag,
    "tmux_socket": a_text,
    "relay": a_flag,
    "sleep_after": seconds,
    "stop_after": seconds,
    "claude": lambda value: value,
    "rules": lambda value: value,
}
_TEMPLATE: Checks = {**_RECORD, "spares": a_count}
_FLEET: Checks = {
    "most_instances": a_count,
    "most_awake": a_count,
    "memory": a_size,
    "permission_wait": seconds,
    "patience": seconds,
}
_BUDGET: Checks = {
    "usd": a_number,
    "tokens": a_count,
    "instance": a_text,
    "project": a_text,
    "per": one_of("day", "total"),
    "then": one_of("refuse", "interrupt"),
}

_SERVICE: Checks = {
    "host": a_text,
    "port": a_port,
    "host_names": texts,
    "database": a_text,
    "webhooks_to_private": a_flag,
    "largest_body": a_size,
    "largest_upload": a_size,
    "longest_wait": seconds,
    "metrics": a_flag,
    "metrics_by_project": a_flag,
    "traces_to": a_web_address,
    "oidc": lambda value: value,
}
_OIDC: Checks = {
    "issuer": a_secure_address,
    "client_id": a_text,
    "client_secret": a_text,
    "client_secret_file": a_text,
    "public_url": an_origin,
    "name": a_text,
    "ask_for": texts,
    "groups_claim": a_text,
    "session": seconds,
    "people": lambda value: value,
}
_WHO = ("email", "email_domain", "group")
_PEOPLE: Checks = {
    **dict.fromkeys(_WHO, texts),
    "scopes": words("read", "command", "permissions", "manage"),
    "instances": texts,
    "projects": texts,
    "commands_per_minute": a_limit,
    "at_once": a_limit,
}

#: All keys that a file may have, by the table that they stand in.
KEYS = {
    "defaults": tuple(_RECORD),
    "claude": tuple(_CLAUDE),
    "rules": tuple(_RULES),
    "api_limits": tuple(_API_LIMITS),
    "templates": ("spares",),
    "fleet": tuple(_FLEET),
    "budgets": tuple(_BUDGET),
    "service": tuple(_SERVICE),
    "oidc": tuple(_OIDC),
    "people": tuple(_PEOPLE),
}


@dataclass(frozen=True)
class ConfiguredTemplate:
    """What instances of a template have in common.

    Attributes:
        fields: of a record, as :meth:`cc_bridge.ClaudeInstance.of` takes them; the defaults are among them, also those
            that mean nothing for the kind.
        spares: how many a fleet keeps ready.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    spares: int = 0


@dataclass(frozen=True)
class Config:
    """What a configuration file says. ``Config()`` is what holds without one.

    Attributes:
        path: the file.
        defaults: fields of the records that ``run`` and ``up`` make, where nothing else is said.
        fleet: options of a fleet, as they stand in the file, in seconds and bytes.
        budgets: arguments of :class:`cc_bridge.fleet.accounts.Budget` each.
        service: what ``cc-bridge serve`` does, where its command line says nothing else; in seconds and bytes. ``oidc``
            is a table, whose ``people`` are a list of tables.
    """

    path: Path | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    templates: Mapping[str, ConfiguredTemplate] = field(default_factory=dict)
    fleet: Mapping[str, Any] = field(default_factory=dict)
    budgets: tuple[Mapping[str, Any], ...] = ()
    service: Mapping[str, Any] = field(default_factory=dict)

    def template(self, name: str) -> ConfiguredTemplate:
        """The template of this name.

        Raises:
            InvalidInput: there is none; says which there are.
        """
        if name in self.templates:
            return self.templates[name]
        where = self.path or "no configuration file was found"
        there = ", ".join(sorted(self.templates)) or "none"
        raise InvalidInput(f"there is no template {name!r} ({where})", hint=f"There are: {there}.")

    def fleet_options(self) -> dict[str, Any]:
        """Arguments for :class:`cc_bridge.fleet.Fleet`."""
        from .fleet import Budget, Template

        options: dict[str, Any] = {**self.fleet, "budgets": tuple(Budget(**budget) for budget in self.budgets)}
        templates = {name: template for name, template in self.templates.items() if template.spares}
        if templates:
            options["templates"] = {
                name: Template(_in_container(record_fields(_of_its_kind(item.fields))), item.spares)
                for name, item in templates.items()
            }
        return options


def _of_its_kind(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without defaults that mean nothing for the kind."""
    return without_meaningless(fields, fields.get("kind", "docker"))


def _in_container(fields: dict[str, Any]) -> dict[str, Any]:
    """As the command line has it: in a container of the default image, unless said otherwise."""
    if fields.get("kind") == "swarm":
        return {"image": "auto", **fields}
    if fields.get("kind", "docker") != "docker":
        return fields
    image = {} if fields.get("dockerfile") or fields.get("container") else {"image": "auto"}
    return {"kind": "docker", **image, **fields}


def parse_config(text: str, path: Path) -> Config:
    """Read and check a file.

    Args:
        text: what is in it.
        path: where it is; paths in it are relative to its directory.

    Raises:
        InvalidInput: names every mistake, with the file and the key, or for what is no TOML, the line.
    """
    if len(text) > _LONGEST:
        raise InvalidInput(f"{path}: it has more than {_LONGEST} characters", hint="It is no configuration file.")
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: {error or 'nested too deeply'}", hint="It has to be TOML.") from None
    reader = _Reader(path)
    config = reader.read(found)
    if reader.problems:
        more = len(reader.problems) - _MOST_NAMED
        named = "; ".join(reader.problems[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise InvalidInput(f"{path}: {named}", hint="`cc-bridge config check` tries it again.")
    return config


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.problems: list[str] = []

    def read(self, found: Mapping[str, Any]) -> Config:
        self._unknown("", found, ("defaults", "templates", "fleet", "budgets", "service"))
        defaults = self._record("defaults", found.get("defaults", {}), _RECORD)
        templates = {}
        for name, given in self._section("templates", found.get("templates", {})).items():
            key = f"templates.{name}"
            if not NAME.match(name):
                self._problem(key, "a template is called by lower-case letters, digits, '_', '.', '-'")
            own = self._record(key, given, _TEMPLATE)
            spares = own.pop("spares", 0)
            templates[name] = ConfiguredTemplate(_merged(defaults, own), spares)
            kind = templates[name].fields.get("kind", "docker")
            self._check_record(key, _merged(without_meaningless(defaults, kind), own))
        for kind in sorted({"docker", defaults.get("kind", "docker")}):  # they hold for instances of all kinds
            self._check_record("defaults", {**without_meaningless(defaults, kind), "kind": kind})
        fleet = self._checked("fleet", found.get("fleet", {}), _FLEET)
        service = self._checked("service", found.get("service", {}), _SERVICE)
        if "oidc" in service:
            service["oidc"] = self._oidc("service.oidc", service["oidc"])
        return Config(self._path, defaults, templates, fleet, self._budgets(found.get("budgets", [])), service)

    def _budgets(self, found: Any) -> tuple[Mapping[str, Any], ...]:
        from .fleet.accounts import Budget

        if not isinstance(found, list):
            self._problem("budgets", "it is to be written [[budgets]]")
            return ()
        budgets = []
        for number, item in enumerate(found, 1):
            key, before = f"budgets[{number}]", len(self.problems)
            budget = self._checked(key, item, _BUDGET)
            if len(self.problems) == before:
                try:
                    Budget(**budget)
                except InvalidInput as error:
                    self._problem(key, error.what)
            budgets.append(budget)
        return tuple(budgets)

    def _oidc(self, key: str, found: Any) -> dict[str, Any]:
        fields = self._checked(key, found, _OIDC)
        for name in ("issuer", "client_id", "public_url", "people"):
            if not fields.get(name):
                self._problem(f"{key}.{name}", "it is needed")
        if "client_secret" in fields and "client_secret_file" in fields:
            self._problem(key, "client_secret and client_secret_file: one of the two")
        self._make_absolute(key, fields, "client_secret_file")
        if not 60 <= fields.get("session", 60) <= _LONGEST_SESSION:
            self._problem(f"{key}.session", "it is to be a minute or more, and 30d at most")
        people = fields.get("people", [])
        if not isinstance(people, list):
            self._problem(f"{key}.people", f"it is to be written [[{key}.people]]")
            people = []
        fields["people"] = [self._people(f"{key}.people[{number}]", item) for number, item in enumerate(people, 1)]
        return fields

    def _people(self, key: str, found: Any) -> dict[str, Any]:
        fields = self._checked(key, found, _PEOPLE)
        if len([name for name in _WHO if fields.get(name)]) != 1:
            self._problem(key, f"who it is: one of {', '.join(_WHO)}")
        if "scopes" not in fields:
            self._problem(f"{key}.scopes", "it is needed")
        for name in ("instances", "projects"):
            if name in fields and not _are_patterns(fields[name]):
                self._problem(f"{key}.{name}", "1 to 100 patterns of 1 to 200 characters; without it: all")
        return fields

    def _record(self, key: str, found: Any, checks: Checks) -> dict[str, Any]:
        fields = self._checked(key, found, checks)
        for name, inner in (("claude", _CLAUDE), ("rules", _RULES), ("api_limits", _API_LIMITS)):
            if name in fields:
                fields[name] = self._checked(f"{key}.{name}", fields[name], inner)
        self._make_absolute(key, fields, "workspace", "dockerfile", "key_file")
        return fields

    def _make_absolute(self, key: str, fields: dict[str, Any], *names: str) -> None:
        for name in [name for name in names if fields.get(name)]:
            try:
                fields[name] = str(self._path.parent / Path(fields[name]).expanduser())
            except RuntimeError:
                self._problem(f"{key}.{name}", "there is no such user")

    def _check_record(self, key: str, fields: Mapping[str, Any]) -> None:
        """Whether an instance could have these fields together."""
        from .record import ClaudeInstance

        if self.problems:  # what is wrong by itself was said
            return
        try:
            workspace = {} if fields.get("workspace_volume") else {"workspace": "/"}
            made = {"kind": "docker", **workspace, **record_fields(fields), "name": "template"}
            ClaudeInstance.of(**_in_container(made))
        except InvalidInput as error:
            self._problem(key, error.what.removeprefix("the instance cannot be: "))
        except ValueError as error:  # a rule
            self._problem(key, str(error))

    def _section(self, key: str, found: Any) -> dict[str, Any]:
        if isinstance(found, dict):
            return found
        self._problem(key, f"it is to be a table: [{key}]")
        return {}

    def _checked(self, key: str, found: Any, checks: Checks) -> dict[str, Any]:
        found = self._section(key, found)
        self._unknown(key, found, tuple(checks))
        checked = {}
        for name in [name for name in found if name in checks]:
            try:
                checked[name] = checks[name](found[name])
            except Wrong as wrong:
                self._problem(f"{key}.{name}", f"it is to be {wrong}")
        return checked

    def _unknown(self, key: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in [name for name in found if name not in known]:
            at = f"{key}.{name}" if key else name
            self._problem(at, f"there is no such key; there are {', '.join(sorted(known))}")

    def _problem(self, key: str, what: str) -> None:
        shown = key if len(key) <= 100 else f"{key[:100]}…"
        self.problems.append(f"{shown}: {what}")


def record_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same as :meth:`cc_bridge.ClaudeInstance.of` takes them: Claude Code's options and the rules as such.

    Raises:
        ValueError: a rule is none.
    """
    from .limits import ApiLimits
    from .permission_rules import PermissionRules
    from .protocol.command_line import ClaudeOptions

    made = dict(fields)
    if "api_limits" in made:
        made["api_limits"] = ApiLimits(**made["api_limits"])
    if "claude" in made:
        made["claude"] = ClaudeOptions(**made["claude"])
    if "rules" in made:
        made["rules"] = PermissionRules(**made["rules"])
    return made


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Of tables the keys of both; of everything else what the template says."""
    found = {**defaults, **own}
    for name in ("claude", "rules", "env", "labels", "api_limits"):
        if name in defaults and name in own:
            found[name] = {**defaults[name], **own[name]}
    return found


def _are_patterns(texts: Sequence[str]) -> bool:
    """A token can have them."""
    return 1 <= len(texts) <= 100 and all(1 <= len(text) <= 200 for text in texts)
