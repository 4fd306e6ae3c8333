"""The configuration file: every key is checked, and every mistake is named. covers: B21"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cc_bridge.config import KEYS, Config, parse_config
from cc_bridge.errors import InvalidInput
from cc_bridge.fleet import Fleet

PATH = Path("/somewhere/cc-bridge.toml")
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"

WHOLE = """
[defaults]
kind = "docker"
memory = "4g"
sleep_after = "5m"
env = { A = "1" }
claude = { model = "sonnet" }
rules = { deny = ["Bash(rm:*)"] }

[templates.shop]
workspace = "shop"
spares = 2
env = { B = "2" }
ports = { "80" = 8080 }
claude.allowed_tools = ["Read"]

[fleet]
most_instances = 100
most_awake = 8
memory = "6g"
permission_wait = "1d"
patience = 60

[[budgets]]
usd = 2
instance = "*"

[[budgets]]
tokens = 1000
project = "shop"
per = "total"
then = "interrupt"

[service]
host_names = ["chat.example"]
database = "postgresql://ann:secret@db/cc_bridge"
largest_body = "8m"
longest_wait = "2m"
metrics = true
traces_to = "http://localhost:4318/v1/traces"

[service.oidc]
issuer = "https://login.example/realms/team"
client_id = "cc-bridge"
client_secret_file = "secret"
public_url = "https://chat.example/"
session = "8h"

[[service.oidc.people]]
group = ["admins"]
scopes = ["read", "manage"]

[[service.oidc.people]]
email_domain = ["example.com"]
scopes = ["read"]
instances = ["team-*"]
at_once = 3
"""

#: Of `[service.oidc]`, all that is needed.
OIDC = """
[service.oidc]
issuer = "https://login.example"
client_id = "x"
public_url = "https://chat.example"
people = [{ email = ["ann@example.com"], scopes = ["read"] }]
"""


def test_all_of_it() -> None:
    config = parse_config(WHOLE, PATH)
    shop = config.template("shop")
    assert shop.spares == 2
    assert (shop.fields["memory"], shop.fields["sleep_after"]) == (4 * 1024**3, 300.0)
    assert shop.fields["workspace"] == "/somewhere/shop"
    assert shop.fields["env"] == {"A": "1", "B": "2"}
    assert shop.fields["claude"] == {"model": "sonnet", "allowed_tools": ("Read",)}
    assert shop.fields["ports"] == {80: 8080}
    assert "ports" not in config.defaults
    assert (config.service["largest_body"], config.service["longest_wait"]) == (8 * 1024**2, 120.0)
    oidc = config.service["oidc"]
    assert (oidc["client_secret_file"], oidc["session"]) == ("/somewhere/secret", 28800.0)
    assert oidc["public_url"] == "https://chat.example"
    assert oidc["people"][1]["instances"] == ("team-*",)


def test_a_fleet_takes_its_options() -> None:
    options = parse_config(WHOLE, PATH).fleet_options()
    assert (options["most_awake"], options["permission_wait"], len(options["budgets"])) == (8, 86400.0, 2)
    Fleet(**options)
    assert Config().fleet_options() == {"budgets": ()}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("defaults = 1", "defaults: it is to be a table"),
        ("[defauts]", "defauts: there is no such key; there are budgets, defaults"),
        ("[defaults]\nmodell = 'x'", "defaults.modell: there is no such key"),
        ("[defaults]\nmemory = 'much'", 'defaults.memory: it is to be an amount of memory, such as "512m"'),
        ("[defaults]\ncpus = '2'", "defaults.cpus: it is to be a number"),
        ("[defaults]\ncpus = nan", "defaults.cpus: it is to be a number"),
        ("[defaults]\npids = true", "defaults.pids: it is to be a whole number"),
        ("[defaults]\nname = 'x'", "defaults.name: there is no such key"),
        ("[defaults]\nmounts = ['x']", "defaults: mounts"),
        ("[defaults]\nkind = 'ssh'", "defaults.kind: it is to be one of docker, local, tmux, swarm"),
        ("[defaults]\nenv = { A = 1 }", "defaults.env: it is to be a table of texts"),
        ("[defaults]\nports = { x = 1 }", "defaults.ports: it is to be a table of ports"),
        ("[defaults]\nrules = { allow = ['Bash('] }", "is no permission rule"),
        ("[defaults]\nclaude = { modell = 'x' }", "defaults.claude.modell: there is no such key"),
        ("[templates.'A B']", "templates.A B: a template is called by"),
        ("[templates.x]\nspares = -1", "templates.x.spares: it is to be a whole number"),
        ("[templates.x]\nkind = 'local'\nclaude.skip_permissions = true", "templates.x: claude.skip_permissions"),
        ("[templates.x]\nkind = 'local'\nmemory = '3g'", "templates.x: memory: only for the kind 'docker' or 'swarm'"),
        ("[defaults]\nkind = 'local'\nrestart = 'sometimes'", "defaults: restart: one of no, "),
        ("[defaults]\nworkspace = '~nobody-at-all/x'", "defaults.workspace: there is no such user"),
        ("[fleet]\npatience = 'long'", 'fleet.patience: it is to be a time, such as "90s"'),
        ("[service]\nport = 65536", "service.port: it is to be a port"),
        ("[service]\nhost_names = 'x'", "service.host_names: it is to be a list of texts"),
        ("[service]\ntraces_to = 'localhost'", "service.traces_to: it is to be an address"),
        ("[service]\ntoken = 'x'", "service.token: there is no such key"),
        ("[service.oidc]", "service.oidc.issuer: it is needed; service.oidc.client_id: it is needed"),
        ("[service.oidc]\npeople = []", "service.oidc.people: it is needed"),
        ("[service.oidc]\npeople = 1", "service.oidc.people: it is to be written [[service.oidc.people]]"),
        ("[service.oidc]\nsecret = 'x'", "service.oidc.secret: there is no such key"),
        (OIDC.replace("https://login", "http://login"), "service.oidc.issuer: it is to be an address such as"),
        (OIDC.replace("https://login", "https://me:pw@login"), "service.oidc.issuer: it is to be an address such as"),
        (OIDC.replace("chat.example", "chat.example/cc"), "service.oidc.public_url: it is to be an address without a"),
        (OIDC.replace("https://chat", "http://chat"), "service.oidc.public_url: it is to be an address such as"),
        (
            OIDC.replace("[{", "[{ group = ['a'],"),
            "service.oidc.people[1]: who it is: one of email, email_domain, group",
        ),
        (OIDC.replace("email", "emil"), "service.oidc.people[1].emil: there is no such key"),
        (OIDC.replace("['read']", "['root']").replace('["read"]', '["root"]'), "it is to be a list with some of read,"),
        (OIDC.replace('["read"]', "[]"), "service.oidc.people[1].scopes: it is to be a list with some of read,"),
        (OIDC.replace("[{", "[{ at_once = 0,"), "service.oidc.people[1].at_once: it is to be a whole number from 1"),
        (OIDC + "session = '31d'", "service.oidc.session: it is to be a minute or more, and 30d at most"),
        (OIDC + "client_secret = 'x'\nclient_secret_file = 'y'", "client_secret_file: one of the two"),
        ("[budgets]\nusd = 1", "budgets: it is to be written [[budgets]]"),
        ("[[budgets]]\nusd = 1", "budgets[1]: a budget is an instance's or a project's"),
        ("[[budgets]]\nusd = 1\nproject = 'x'\nper = 'week'", "budgets[1].per: it is to be one of day, total"),
        ("[defaults\n", "line 1"),
        ("a = " + "[" * 100_000, "cc-bridge.toml"),
        ("#" * 2_000_000, "more than"),
    ],
    ids=lambda value: value[:40].strip(),
)
def test_mistakes(text: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_config(text, PATH)
    assert says in str(caught.value)
    assert str(PATH) in str(caught.value)


def test_defaults_hold_for_the_kinds_for_which_they_mean_something() -> None:
    text = """
    [defaults]
    kind = "local"
    memory = "4g"
    tmux_socket = "/run/mine"
    [templates.process]
    spares = 1
    [templates.container]
    kind = "docker"
    spares = 1
    """
    templates = parse_config(text, PATH).fleet_options()["templates"]
    assert "memory" not in templates["process"].fields
    assert templates["container"].fields["memory"] == 4 * 1024**3
    assert "tmux_socket" not in templates["container"].fields


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_config("[defaults]\nx = 1\ncpus = '2'\n[fleet]\ny = 1\n", PATH)
    assert all(key in str(caught.value) for key in ("defaults.x", "defaults.cpus", "fleet.y"))


def test_a_template_that_is_not_there() -> None:
    with pytest.raises(InvalidInput, match="There are: shop"):
        parse_config(WHOLE, PATH).template("shopp")
    with pytest.raises(InvalidInput, match="no configuration file was found"):
        Config().template("shop")


def documented() -> dict[str, set[str]]:
    """The first cells of the tables, by the section that they are in."""
    found: dict[str, set[str]] = {}
    for section in re.split(r"^## ", DOCS.read_text(), flags=re.MULTILINE)[1:]:
        title = re.findall(r"`\[*(\w+)", section.partition("\n")[0].rpartition(": ")[2])
        rows = re.findall(r"^\| (`[^|]+) \|", section, flags=re.MULTILINE)
        if title:
            found[title[0]] = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    return found


def test_each_key_is_documented_and_each_documented_key_is_accepted() -> None:
    assert documented() == {table: set(keys) for table, keys in KEYS.items()}


def test_the_example_is_valid() -> None:
    for example in re.findall(r"```toml\n(.*?)```", DOCS.read_text(), flags=re.DOTALL):
        parse_config(example, PATH)


def hostile() -> list[Any]:
    return ["[defaults]\nimage = '\\u001b'", "\x00", "[defaults.claude.model]\n", "templates = []", "[[defaults]]"]


@pytest.mark.parametrize("text", hostile())
def test_nothing_else_is_raised(text: str) -> None:
    try:
        parse_config(text, PATH)
    except InvalidInput:
        pass


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.parametrize(
    "text",
    [
        "[defaults]\ncpus = {}",
        "[defaults]\npids = {}",
        "[defaults]\nsleep_after = {}",
        "[fleet]\nmemory = {}",
        "[[budgets]]\nusd = {}",
        "[[budgets]]\ntokens = {}",
    ],
)
def test_a_number_of_hundreds_of_digits_is_a_mistake(text: str, digits: int) -> None:
    with pytest.raises(InvalidInput):
        parse_config(text.format("1" + "0" * digits), Path("/c.toml"))
