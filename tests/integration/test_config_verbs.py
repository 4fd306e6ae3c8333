"""The configuration file on the command line. covers: B21 T1"""

from __future__ import annotations

import functools
import io
import json
import os
import sys
import uuid
from pathlib import Path

import anyio
import pytest
import typer

from cc_bridge import ClaudeInstance
from cc_bridge.cli import app, options, prune, quick
from cc_bridge.cli.configuration import load_config, read_text, trust, with_configured
from cc_bridge.cli.display import Display
from cc_bridge.cli.record_options import On, Options
from cc_bridge.cli.serve import openid_of
from cc_bridge.config import parse_config
from cc_bridge.dockerfiles import Dockerfiles
from cc_bridge.errors import InvalidInput
from cc_bridge.instances.registry import Registry
from cc_bridge.protocol.command_line import ClaudeOptions
from cc_bridge.state import state_root
from tests.command import COMMAND, Terminal, cc
from tests.conftest import STUB

GOOD = '[defaults]\nmemory = "3g"\nclaude = { model = "sonnet" }\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in, and no configuration."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.delenv("CC_BRIDGE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return place


def own(tmp_path: Path) -> Path:
    path = tmp_path / "xdg" / "cc-bridge" / "cc-bridge.toml"
    path.parent.mkdir(parents=True)
    return path


def test_none_is_needed(here: Path) -> None:
    assert load_config().path is None


def test_the_users_own_and_one_that_is_named_hold_as_they_are(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own(tmp_path)
    path.write_text(GOOD)
    assert load_config().path == path
    named = tmp_path / "named.toml"
    named.write_text(GOOD)
    monkeypatch.setenv("CC_BRIDGE_CONFIG", str(named))
    assert load_config().path == named
    monkeypatch.setenv("CC_BRIDGE_CONFIG", "")
    assert load_config().path is None
    monkeypatch.setenv("CC_BRIDGE_CONFIG", str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_config()


def test_one_in_this_directory_is_looked_at_first_after_each_change(here: Path, tmp_path: Path) -> None:
    own(tmp_path).write_text(GOOD)
    path = here / "cc-bridge.toml"
    path.write_text(GOOD)
    with pytest.raises(InvalidInput, match="config trust"):
        load_config()
    trust(path, read_text(path))
    assert load_config().path == path
    path.write_text('[defaults]\nmounts = ["/:/host"]\n')
    with pytest.raises(InvalidInput, match="config trust"):
        load_config()


def test_where_an_instance_can_write_nothing_is_taken_unseen(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the user's own, where the workspace is above it, and what is behind a link."""
    path = own(tmp_path)
    path.write_text(GOOD)
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.symlink_to(path)
    Dockerfiles(state_root()).note_writable([tmp_path / "xdg"])
    for named in (None, str(elsewhere)):
        if named:
            monkeypatch.setenv("CC_BRIDGE_CONFIG", named)
        with pytest.raises(InvalidInput, match="config trust"):
            load_config()


POWERFUL = """
[defaults]
memory = "3g"
env = { TOKEN = "hush" }
claude = { model = "sonnet", program = "./\\u202eclaude" }
[templates.t]
mounts = ["/:/host", "/etc:/etc"]
sealed = true
key_command = "pass key"
allow_hosts = ["evil.example"]
claude.mcp_config = ["servers.json"]
"""


def test_what_is_trusted_is_shown_before(here: Path) -> None:
    """Whatever runs, mounts or lets something through, and nothing that cannot be seen."""
    path = here / "cc-bridge.toml"
    path.write_text(POWERFUL)
    done = cc("config", "trust")
    assert (done.returncode, done.stdout) == (0, f"{path}\n")
    assert done.stderr.splitlines() == [
        str(path),
        "  defaults.env.TOKEN = ***",
        "  defaults.claude.program = ./\\u202eclaude",
        "  templates.t.mounts = /:/host, /etc:/etc",
        "  templates.t.key_command = pass key",
        "  templates.t.allow_hosts = evil.example",
        "  templates.t.claude.program = ./\\u202eclaude",
        "  templates.t.claude.mcp_config = servers.json",
    ]
    assert load_config().path == path


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_at_a_terminal_it_is_asked_for(here: Path, answer: str, code: int) -> None:
    path = here / "cc-bridge.toml"
    path.write_text(POWERFUL)
    with Terminal([*COMMAND, "config", "trust"]) as person:
        person.wait_for("mounts = /:/host, /etc:/etc")
        person.wait_for("Trust it? [y/N] ")
        person.type(f"{answer}\r")
        assert person.end() == code
    if code:
        with pytest.raises(InvalidInput, match="config trust"):
            load_config()
    else:
        assert load_config().path == path


@pytest.mark.parametrize("kind", ["fifo", "directory", "binary", "large"])
def test_what_is_no_file_is_not_waited_for(here: Path, kind: str) -> None:
    path = here / "cc-bridge.toml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"\xff" if kind == "binary" else b"#" * 2_000_000)
    with pytest.raises(InvalidInput):
        load_config()


def test_options_come_before_what_is_configured() -> None:
    configured = {"memory": 5, "cpus": 4.0, "labels": {"a": "b"}, "env": {"A": "1", "B": "1"}}
    configured |= {"claude": ClaudeOptions(model="sonnet", permission_mode="plan")}
    given = {
        "kind": "docker",
        "memory": 2 * 1024**3,
        "cpus": 3.0,
        "env": {"A": "2"},
        "claude": ClaudeOptions(model="opus"),
    }
    made = with_configured(given, configured, {"cpus", "model"})
    assert (made["memory"], made["cpus"], made["labels"]) == (5, 3.0, {"a": "b"})
    assert made["env"] == {"A": "2", "B": "1"}
    assert made["claude"] == ClaudeOptions(model="opus", permission_mode="plan")
    assert Options().template == ""
    local = with_configured({"kind": "local", "env": {}, "claude": ClaudeOptions()}, {"memory": 5, "tmux": True})
    assert "memory" not in local
    assert "tmux" not in local


@pytest.mark.parametrize(
    ("reader", "words"),
    [("quick", "run hello --docker"), ("typer", "run hello --on docker -w ."), ("typer", "up aloud --on docker -w .")],
)
def test_an_option_that_says_its_default_comes_before_a_template(
    here: Path, monkeypatch: pytest.MonkeyPatch, reader: str, words: str
) -> None:
    text = '[defaults]\nmemory = "4g"\nnetwork = "host"\nrestart = "always"\ndockerfile = "D"\npids = 9\n'
    text += '[templates.t]\nkind = "local"\nsleep_after = "5m"\nworkspace = "shop"\n'
    text += 'claude = { model = "opus", permission_mode = "plan" }\n'
    path = here / "cc-bridge.toml"
    path.write_text(text)
    trust(path, text)
    found: list[ClaudeInstance] = []

    def noted(record: ClaudeInstance, *_: object, **__: object) -> None:
        found.append(record)
        raise InvalidInput("enough")

    monkeypatch.setattr(options, "instance_of", noted)
    aloud = "--sleep-after 0 --memory 2g --network bridge --restart no --image auto --model="
    line = [*words.split(), *aloud.split(), "--template", "t"]
    call = quick.read(line) if reader == "quick" else None
    if reader == "typer":
        call = functools.partial(typer.main.get_command(app.app).main, line, prog_name="cc-bridge")
    assert call is not None
    with pytest.raises(SystemExit) as left:
        call()
    (record,) = found
    assert left.value.code == 2
    assert (record.kind, record.workspace, record.dockerfile) == (
        "docker",
        here / "shop" if reader == "quick" else here,
        None,
    )
    assert (record.sleep_after, record.memory, record.network, record.restart) == (0, 2 * 1024**3, "bridge", "no")
    assert (record.pids, record.claude) == (9, ClaudeOptions(permission_mode="plan"))


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("--on local --memory 2g", "--memory: only with --on docker"),  # also where it says the default
        ("--on tmux --network bridge --cpus 1", "--cpus: only with --on docker or swarm; --network: only with"),
        ("--on local --no-relay", "--relay: only with --on docker or swarm or tmux"),
        ("--on docker --pane %3", "--pane: only with --on tmux"),
        ("--container c --memory 2g", "--memory: only for a container that is made"),
    ],
)
def test_what_the_command_line_says_has_to_mean_something_there(here: Path, words: str, refused: str) -> None:
    done = cc("up", "meaningless", *words.split())
    assert (done.returncode, refused in done.stderr) == (2, True), done.stderr


def test_what_is_configured_for_all_kinds_is_no_mistake_where_it_means_nothing(here: Path, tmp_path: Path) -> None:
    path = own(tmp_path)
    path.write_text('[defaults]\nmemory = "3g"\npids = 9\nrelay = false\ntmux_socket = "/run/mine"\n')
    for on, has in ((On.local, (2 * 1024**3, 512, True)), (On.docker, (3 * 1024**3, 9, False))):
        record = anyio.run(functools.partial(Options(on=on).record, "x", Display(), ephemeral=True))
        assert (record.memory, record.pids, record.relay) == has


def test_up_with_a_template(here: Path, tmp_path: Path, workspace: Path) -> None:
    name = f"templated-{uuid.uuid4().hex[:8]}"
    text = f'[templates.stub]\nkind = "local"\nworkspace = "{workspace}"\nlabels = {{ a = "b" }}\n'
    text += f'env = {{ HOME = "{tmp_path}" }}\nclaude = {{ program = "{STUB}" }}\n'
    (here / "cc-bridge.toml").write_text(text)
    refused = cc("up", name, "--template", "stub")
    assert (refused.returncode, "config trust" in refused.stderr) == (2, True)
    assert cc("config", "trust").returncode == 0
    try:
        done = cc("up", name, "--template", "stub")
        assert done.returncode == 0, done.stderr
        record = Registry().load(name)
        assert (record.kind, record.workspace, record.labels) == ("local", workspace, {"a": "b"})
        assert record.env["HOME"] == str(tmp_path)
        row = next(row for row in json.loads(cc("ps", "--json").stdout) if row["name"] == name)
        assert row["memory"] > 1024**2
        assert (row["permissions"], row["cost"]) == (0, None)
    finally:
        cc("rm", "--force", "--conversation", name)
    none = cc("up", name, "--template", "stubb")
    assert (none.returncode, "There are: stub" in none.stderr) == (2, True)


def test_check_and_show(here: Path) -> None:
    none = cc("config", "check")
    assert (none.returncode, "no configuration file" in none.stderr) == (2, True)
    path = here / "cc-bridge.toml"
    path.write_text('[defaults]\nmodel = "x"\n[fleet]\nmost = 1\n')
    wrong = cc("config", "check", str(path))
    assert wrong.returncode == 2
    assert "defaults.model" in wrong.stderr
    assert "fleet.most" in wrong.stderr
    path.write_text(GOOD + '[defaults.env]\nTOKEN = "secret"\n')
    assert cc("config", "check").stdout == f"{path}\n"
    assert cc("config", "trust").stdout == f"{path}\n"
    shown = cc("config", "show", "--json").stdout
    assert json.loads(shown)["defaults"]["memory"] == 3 * 1024**3
    assert "secret" not in shown
    assert "sonnet" in cc("config", "show").stdout


def test_a_directory_that_was_removed_and_a_user_that_is_none(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC_BRIDGE_CONFIG", "~no-such-user-9/x")
    with pytest.raises(InvalidInput, match="there is no such user"):
        load_config()
    monkeypatch.delenv("CC_BRIDGE_CONFIG")
    here.rmdir()
    for words in (["run", "hello", "--on", "local"], ["config", "show"]):
        with pytest.raises(SystemExit) as left:
            typer.main.get_command(app.app).main(words, prog_name="cc-bridge")
        assert left.value.code == 2


def test_mistakes_and_a_question_given_up_end_quick_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    verb = quick.read(["doctor", "foo", "--isolation", "bar"])
    assert verb is not None
    with pytest.raises(SystemExit) as left:
        verb()
    assert left.value.code == 2
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert not prune._agreed(1)


def test_the_password_of_a_services_database_is_not_shown(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named.toml"
    named.write_text('[service]\ndatabase = "postgresql://ann:se@cret@db:5432/x?password=hidden&sslmode=require"\n')
    monkeypatch.setenv("CC_BRIDGE_CONFIG", str(named))
    shown = cc("config", "show", "--json").stdout
    assert json.loads(shown)["service"] == {"database": "postgresql://***@db:5432/x?***"}


OIDC = """
[service.oidc]
issuer = "https://login.example"
client_id = "cc-bridge"
client_secret = "hidden"
public_url = "https://chat.example"
people = [{ email_domain = ["example.com"], scopes = ["read"] }]
"""


def test_who_may_sign_in_is_shown_and_the_secret_is_not(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named.toml"
    named.write_text(OIDC)
    monkeypatch.setenv("CC_BRIDGE_CONFIG", str(named))
    shown = cc("config", "show").stdout
    assert "service.oidc.people[1].email_domain" in shown
    told = cc("config", "trust", str(named)).stderr
    assert "service.oidc.issuer = https://login.example" in told
    assert "hidden" not in shown + told


def test_where_a_service_s_secret_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cc-bridge.toml"
    configured = parse_config(OIDC, path).service["oidc"]
    names = ("chat.example",)

    def secret(**options: str) -> str:
        found = openid_of({**configured, "client_secret": "", **options}, names)
        assert found
        return found.settings.client_secret

    (tmp_path / "secret").write_text("in a file\n")
    (tmp_path / "empty").touch()
    assert secret() == ""
    assert secret(client_secret="hidden") == "hidden"
    assert secret(client_secret_file=str(tmp_path / "secret")) == "in a file"
    monkeypatch.setenv("CC_BRIDGE_OIDC_CLIENT_SECRET", "in a variable")
    assert secret(client_secret_file=str(tmp_path / "secret")) == "in a variable"
    assert "CC_BRIDGE_OIDC_CLIENT_SECRET" not in os.environ  # no Claude Code inherits it
    for wrong, what in [
        ({"client_secret_file": str(tmp_path / "empty")}, "is empty"),
        ({"public_url": "https://other.example"}, "not called other.example"),
    ]:
        with pytest.raises(InvalidInput, match=what):
            secret(**wrong)
    assert openid_of(None, ()) is None
    monkeypatch.delitem(sys.modules, "cc_bridge.service.openid")
    monkeypatch.setitem(sys.modules, "joserfc", None)
    with pytest.raises(InvalidInput, match="joserfc is not installed"):
        secret()
