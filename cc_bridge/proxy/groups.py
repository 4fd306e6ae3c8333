"""The hosts of a group such as ``python``: those that the same tools of this machine are set up to use.

So an instance fetches packages from where its host does, a company's mirror or the public registry. Tools are asked
in ``/``, where no project's configuration lies: a repository must not say what may be reached.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from ..allowed_hosts import Rule, read_host, read_rule

__all__ = ["apt_urls", "hosts_of_urls", "npm_urls", "pip_urls", "rules_of"]

#: Seconds for each question.
_PATIENCE = 20

#: Bytes of a file with apt's sources. They are the administrator's; the limit is against a wrong file.
_LONGEST_SOURCES = 1024 * 1024

_GITHUB = ("github.com", "api.github.com", "codeload.github.com", "*.githubusercontent.com")

#: Where pip goes when nothing is set: the index, and the host that has its files. Only pip knows both.
_PIP_DEFAULT = (
    "from pip._internal.models.index import PyPI; print(PyPI.simple_url, 'https://' + PyPI.file_storage_domain)"
)


async def rules_of(group: str) -> tuple[Rule, ...]:
    """What a group allows on this machine; nothing where the tool is not here, or says nothing that is understood.

    Raises:
        ValueError: there is no such group.
    """
    if group == "github":
        return tuple(map(read_rule, _GITHUB))
    if group == "debian":
        return _rules(await anyio.to_thread.run_sync(_apt_hosts_here))
    if group == "node":
        return _rules(hosts_of_urls(npm_urls(await _ask("npm", "config", "list", "--json"))))
    if group == "python":
        indexes, extra = pip_urls(await _ask("python3", "-m", "pip", "config", "list"))
        if not indexes:
            indexes = (await _ask("python3", "-c", _PIP_DEFAULT)).split()
        return _rules(hosts_of_urls([*indexes, *extra]))
    raise ValueError(f"there is no group {group!r}")


async def _ask(*command: str) -> str:
    try:
        with anyio.fail_after(_PATIENCE):
            done = await anyio.run_process(command, stderr=subprocess.DEVNULL, check=False, cwd="/")
    except (OSError, TimeoutError):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _rules(hosts: Iterable[tuple[str, int]]) -> tuple[Rule, ...]:
    return tuple(Rule(host, port) for host, port in dict.fromkeys(hosts))


def hosts_of_urls(urls: Iterable[str]) -> list[tuple[str, int]]:
    """Hosts of web addresses with their ports, of plain HTTP that of HTTPS; others, such as files, have none."""
    hosts = []
    for url in urls:
        try:
            parts = urlsplit(url)
            if parts.scheme in ("http", "https"):
                port = parts.port if parts.scheme == "https" else None
                hosts.append((read_host(parts.hostname or ""), port or 443))
        except ValueError:  # an address in a name's place, no port, or no URL
            continue
    return hosts


def pip_urls(listed: str) -> tuple[list[str], list[str]]:
    """Indexes that are set, and extra ones, out of what ``pip config list`` prints."""
    found: dict[str, list[str]] = {"index-url": [], "extra-index-url": []}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in found:
            found[name] += value.strip("'\"").replace("\\n", " ").split()
    return found["index-url"], found["extra-index-url"]


def npm_urls(listed: str) -> list[str]:
    """Registries, those of scopes too, out of what ``npm config list --json`` prints."""
    try:
        settings = json.loads(listed)
    except ValueError:
        return []
    return [
        value
        for key, value in (settings.items() if isinstance(settings, dict) else ())
        if (key == "registry" or key.endswith(":registry")) and isinstance(value, str)
    ]


def _apt_hosts_here() -> list[tuple[str, int]]:
    folder = Path("/etc/apt")
    paths = [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]
    return hosts_of_urls(url for path in paths for url in _apt_urls_of(path))


def _apt_urls_of(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_LONGEST_SOURCES)
    except OSError:
        return []
    return apt_urls(text, deb822=path.suffix == ".sources")


def apt_urls(text: str, *, deb822: bool) -> list[str]:
    """Addresses of a distribution's own archives in a file of sources.list(5).

    Those have a component ``main`` and a suite that is named as a release is, ``bookworm`` or ``bookworm-security``.
    Other vendors' archives are left out: who wants them names them.
    """
    entries = _stanzas(text) if deb822 else _lines(text)
    return [
        url
        for urls, suites, components in entries
        if "main" in components and any(map(_is_release, suites))
        for url in urls
    ]


def _is_release(suite: str) -> bool:
    return bool(re.fullmatch(r"[a-z]+(-(updates|security|backports))?(/updates)?", suite))


def _lines(text: str) -> Iterable[tuple[list[str], list[str], list[str]]]:
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.partition("#")[0]).split()
        if len(words) > 2 and words[0] == "deb":
            yield [words[1]], [words[2]], words[3:]


def _stanzas(text: str) -> Iterable[tuple[list[str], list[str], list[str]]]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in stanza.splitlines():
            if line[:1] in " \t" and last:
                fields[last] += line
            elif not line.startswith("#"):
                key, _, value = line.partition(":")
                last = key.strip().lower()
                fields[last] = value
        if fields.get("enabled", "yes").strip().lower() not in ("no", "false"):
            yield fields.get("uris", "").split(), fields.get("suites", "").split(), fields.get("components", "").split()
