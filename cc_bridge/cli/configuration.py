"""Which configuration file holds, whether it is the user's, and what it means for a new record."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput
from ..kinds import means_something
from ..state import make_private, state_root

if TYPE_CHECKING:
    from ..config import Config

__all__ = [
    "configured_fields",
    "current_directory",
    "find_config",
    "load_config",
    "read_text",
    "trust",
    "with_configured",
]

_NAME = "cc-bridge.toml"

_GONE = "the current directory has been removed"

#: Bytes of a file.
_LARGEST = 1024 * 1024


def find_config() -> Path | None:
    """The file that holds; None: there is none. One that was named need not be there."""
    named = os.environ.get("CC_BRIDGE_CONFIG")
    if named is not None:
        try:
            return Path(named).expanduser().absolute() if named else None
        except RuntimeError:
            raise InvalidInput(f"CC_BRIDGE_CONFIG={named}: there is no such user") from None
        except FileNotFoundError:
            raise InvalidInput(_GONE) from None
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "cc-bridge" / _NAME
    return next((path for path in (current_directory() / _NAME, own) if os.path.lexists(path)), None)


def current_directory() -> Path:
    """Where the user is.

    Raises:
        InvalidInput: it has been removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise InvalidInput(_GONE) from None


def load_config() -> Config:
    """What the configuration file says; without one, nothing.

    Raises:
        InvalidInput: it cannot be read, has mistakes, or may be somebody else's.
    """
    from ..config import Config, parse_config

    path = find_config()
    if path is None:
        return Config()
    text = read_text(path)
    if _needs_trust(path) and _digest(text) != _trusted(path):
        what = f"{path} was not looked at since it was written, and Claude Code or a repository may have written it"
        hint = f"Read it, then `cc-bridge config trust {path}`; with CC_BRIDGE_CONFIG= nothing is configured."
        raise InvalidInput(what, hint=hint)
    return parse_config(text, path)


def read_text(path: Path) -> str:
    """What is in a file.

    Raises:
        InvalidInput: it cannot be read, or is too large for a configuration.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise InvalidInput(f"{path} is not a file")
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise InvalidInput(f"{path} has more than {_LARGEST} bytes", hint="It is no configuration file.")
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def trust(path: Path, text: str) -> None:
    """Remember that the user has looked at this text.

    Raises:
        InvalidInput: it cannot be remembered.
    """
    from ..state import unusable

    kept = _kept(path)
    try:
        make_private(kept.parent)
        scratch = kept.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps({"path": str(path), "digest": _digest(text)}))
        scratch.replace(kept)
    except OSError as error:
        raise unusable(kept.parent, error) from error


def _needs_trust(path: Path) -> bool:
    """It was found by where the user happens to be, or an instance could write there."""
    from ..dockerfiles import Dockerfiles

    found_here = "CC_BRIDGE_CONFIG" not in os.environ and path == current_directory() / _NAME
    return found_here or Dockerfiles(state_root()).could_be_written(path)


def _trusted(path: Path) -> str:
    try:
        return str(json.loads(_kept(path).read_text())["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _kept(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    return state_root() / "configs" / f"{name}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def configured_fields(template: str) -> dict[str, Any]:
    """The fields of a template, or the defaults.

    Raises:
        InvalidInput: as :func:`load_config`, or there is no such template.
    """
    from ..config import record_fields

    config = load_config()
    return record_fields(config.template(template).fields if template else config.defaults)


def with_configured(
    given: Mapping[str, Any], configured: Mapping[str, Any], said: Collection[str] = ()
) -> dict[str, Any]:
    """A record's fields: those that were said, and what is configured in the place of the others.

    Args:
        given: what the options make of them, said or not.
        said: names of fields, also of Claude Code's options.
    """
    from ..protocol.command_line import ClaudeOptions

    made = dict(given)
    for name, value in configured.items():
        if name in ("kind", "claude", "env") or not means_something(name, given["kind"]):
            continue
        if name in ("workspace", "image", "dockerfile") and given.get("container"):
            continue
        if name in ("image", "dockerfile") and not {"image", "dockerfile"}.isdisjoint(said):  # either says which image
            continue
        if name not in said or name not in given:
            made[name] = value
    made["env"] = {**configured.get("env", {}), **given["env"]}
    own, chosen = given["claude"], configured.get("claude", ClaudeOptions())
    made["claude"] = replace(
        chosen, **{item.name: getattr(own, item.name) for item in fields_of(own) if item.name in said}
    )
    return made
