"""The configuration file ``cc-bridge.toml``: text in, values out. Sans-I/O.

docs/reference/configuration.md explains the keys.

A file is checked as a whole: all mistakes are named at once, each with the key that has it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import checks
from .errors import InvalidInput
from .kinds import without_meaningless
from .names import NAME

__all__ = ["KEYS", "Config", "ConfiguredTemplate", "parse_config", "record_fields"]

#: Characters of a file, and mistakes that are named.
_LONGEST = 1024 * 1024
_MOST_NAMED = 20

#: More than any whole number is: what an engine or SQLite can take has 64 bits.
_BEYOND = 2**63

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class _Wrong(Exception):
    """What a value should be."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("a text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _BEYOND:
        raise _Wrong("a whole number, 0 or more")
    return value


def _number(value: Any) -> float:
    try:
        found = checks.number(value)
    except ValueError:
        raise _Wrong("a number, 0 or more") from None
    if found < 0:
        raise _Wrong("a number, 0 or more")
    return found


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Wrong("a list of texts")
    return tuple(value)


def _table(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _Wrong("a table of texts")
    return dict(value)


def _ports(value: Any) -> dict[int, int]:
    wanted = _Wrong('a table of ports, such as { "80" = 8080 }')
    if not isinstance(value, dict):
        raise wanted
    if not all(re.fullmatch(r"\d{1,5}", key) and type(port) is int for key, port in value.items()):
        raise wanted
    return {int(key): port for key, port in value.items()}


def _seconds(value: Any) -> float:
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", value)):
        return float(found[1]) * _UNITS[found[2]]
    try:
        return _number(value)
    except _Wrong:
        raise _Wrong('a time, such as "90s", "10m", "2h", "1d", or seconds') from None


def _size(value: Any) -> int:
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([kmg]?)b?", value.lower())):
        return int(float(found[1]) * _SIZES[found[2]])
    try:
        return _count(value)
    except _Wrong:
        raise _Wrong('an amount of memory, such as "512m" or "2g", or bytes') from None


def _port(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 65536:
        raise _Wrong("a port, or 0 for any that is free")
    return value


def _web_address(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"https?://[^\s/]", value):
        raise _Wrong('an address, such as "http://localhost:4318/v1/traces"')
    return value


def _one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words:
            raise _Wrong(f"one of {', '.join(words)}")
        return str(value)

    return check


Checks = dict[str, Callable[[Any], Any]]

_CLAUDE: Checks = {
    "program": _text,
    "model": _text,
    "system_prompt": _text,
    "append_system_prompt": _text,
    "allowed_tools": _texts,
    "disallowed_tools": _texts,
    "permission_mode": _text,
    "skip_permissions": _flag,
    "mcp_config": _texts,
    "extra": _texts,
}
_RULES: Checks = {"allow": _texts, "ask": _texts, "deny": _texts}

#: Fields of a record that are not one instance's own.
_RECORD: Checks = {
    "kind": _one_of("docker", "local", "tmux"),
    "image": _text,
    "dockerfile": _text,
    "workspace": _text,
    "mount_at": _text,
    "read_only_workspace": _flag,
    "mounts": _texts,
    "env": _table,
    "network": _text,
    "memory": _size,
    "cpus": _number,
    "cpu_shares": _count,
    "pids": _count,
    "ports": _ports,
    "restart": _text,
    "writable": _flag,
    "docker_socket": _flag,
    "credentials": _flag,
    "user": _text,
    "labels": _table,
    "project": _text,
    "tmux": _flag,
    "tmux_socket": _text,
    "relay": _flag,
    "sleep_after": _seconds,
    "stop_after": _seconds,
    "claude": lambda value: value,
    "rules": lambda value: value,
}
_TEMPLATE: Checks = {**_RECORD, "spares": _count}
_FLEET: Checks = {
    "most_instances": _count,
    "most_awake": _count,
    "memory": _size,
    "permission_wait": _seconds,
    "patience": _seconds,
}
_BUDGET: Checks = {
    "usd": _number,
    "tokens": _count,
    "instance": _text,
    "project": _text,
    "per": _one_of("day", "total"),
    "then": _one_of("refuse", "interrupt"),
}

_SERVICE: Checks = {
    "host": _text,
    "port": _port,
    "host_names": _texts,
    "database": _text,
    "webhooks_to_private": _flag,
    "largest_body": _size,
    "largest_upload": _size,
    "longest_wait": _seconds,
    "metrics": _flag,
    "metrics_by_project": _flag,
    "traces_to": _web_address,
}

#: All keys that a file may have, by the table that they stand in.
KEYS = {
    "defaults": tuple(_RECORD),
    "claude": tuple(_CLAUDE),
    "rules": tuple(_RULES),
    "templates": ("spares",),
    "fleet": tuple(_FLEET),
    "budgets": tuple(_BUDGET),
    "service": tuple(_SERVICE),
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
        service: what ``cc-bridge serve`` does, where its command line says nothing else; in seconds and bytes.
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

    def _record(self, key: str, found: Any, checks: Checks) -> dict[str, Any]:
        fields = self._checked(key, found, checks)
        for name, inner in (("claude", _CLAUDE), ("rules", _RULES)):
            if name in fields:
                fields[name] = self._checked(f"{key}.{name}", fields[name], inner)
        for name in ("workspace", "dockerfile"):
            if fields.get(name):
                try:
                    fields[name] = str(self._path.parent / Path(fields[name]).expanduser())
                except RuntimeError:
                    self._problem(f"{key}.{name}", "there is no such user")
        return fields

    def _check_record(self, key: str, fields: Mapping[str, Any]) -> None:
        """Whether an instance could have these fields together."""
        from .record import ClaudeInstance

        if self.problems:  # what is wrong by itself was said
            return
        try:
            made = {"kind": "docker", "workspace": "/", **record_fields(fields), "name": "template"}
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
            except _Wrong as wrong:
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
    from .permission_rules import PermissionRules
    from .protocol.command_line import ClaudeOptions

    made = dict(fields)
    if "claude" in made:
        made["claude"] = ClaudeOptions(**made["claude"])
    if "rules" in made:
        made["rules"] = PermissionRules(**made["rules"])
    return made


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Of tables the keys of both; of everything else what the template says."""
    found = {**defaults, **own}
    for name in ("claude", "rules", "env", "labels"):
        if name in defaults and name in own:
            found[name] = {**defaults[name], **own[name]}
    return found
