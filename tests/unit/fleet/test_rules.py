"""Permission rules: what they forbid, and that nothing that they do not cover is ever allowed. covers: B4"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_bridge import ClaudeInstance, InvalidInput, PermissionRequest
from cc_bridge.fleet.permission_commands import LONGEST_COMMAND, MOST_COMMANDS, matches, simple_commands
from cc_bridge.fleet.permission_paths import Place
from cc_bridge.fleet.rules import Rules, allow_always, kept_rules, suggested_rules
from cc_bridge.instances.registry import Registry
from cc_bridge.permission_rules import PermissionRules, parse_rule

PLACE = Place("/shop", "/home/me", lambda path: os.path.normpath(path))


def asked(tool: str, **given: Any) -> PermissionRequest:
    return PermissionRequest("r", tool, given)


def ruling(request: PermissionRequest, place: Place = PLACE, **texts: str | list[str]) -> str | None:
    lists = {kind: (text,) if isinstance(text, str) else tuple(text) for kind, text in texts.items()}
    found = Rules(PermissionRules(**lists), place).decide(request)
    return found.behaviour if found else None


def bash(command: Any, **texts: str | list[str]) -> str | None:
    return ruling(asked("Bash", command=command), **texts)


# The order, and whole tools


def test_deny_comes_before_ask_and_ask_before_allow_however_specific_they_are() -> None:
    assert bash("git push", allow="Bash(git push)", ask="Bash(git push:*)", deny="Bash(git:*)") == "deny"
    assert bash("git push", allow="Bash(git push)", ask="Bash(git:*)") == "ask"
    assert bash("git push", allow="Bash(git push)") == "allow"
    assert bash("git push", allow="Bash(git pull)") is None


@pytest.mark.parametrize(
    ("rule", "tool", "covered"),
    [
        ("WebSearch", "WebSearch", True),
        ("Bash(*)", "Bash", True),
        ("Bash", "BashOutput", False),
        ("Edit", "Write", True),
        ("Write", "Edit", False),
        ("Read", "Grep", True),
        ("Read", "Edit", False),
        ("mcp__db", "mcp__db__query", True),
        ("mcp__db", "mcp__dbs__query", False),
        ("mcp__db__query", "mcp__db__query", True),
        ("mcp__db__query", "mcp__db__query__all", False),
        ("mcp__db__get_*", "mcp__db__get_row", True),
        ("mcp__db__get_*", "mcp__db__drop", False),
    ],
)
def test_a_tools_name_is_every_use_of_it(rule: str, tool: str, covered: bool) -> None:
    assert (ruling(asked(tool), allow=rule) == "allow") is covered
    assert (ruling(asked(tool), deny=rule) == "deny") is covered


@pytest.mark.parametrize(
    "text",
    ["", "Bash(", "Bash()", "Bash(a)b", "(a)", "Bash(:*)", "Bash(a:*b)", "Read(../x)", "WebFetch(example.org)"]
    + ["WebFetch(domain:a b)", "mcp__a__b(c)", "Task(x)", "Bash(a\nb)", f"Bash({'a' * 500})", "b ash"],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rule(text)
    with pytest.raises(ValueError):
        PermissionRules(deny=(text,))
    with pytest.raises(InvalidInput, match="rule"):
        ClaudeInstance.of(name="a", kind="local", workspace="/", rules={"deny": [text]})


# Commands


@pytest.mark.parametrize(
    ("rule", "command", "covered"),
    [
        ("git status", "git status", True),
        ("git status", "git status -s", False),
        ("git status:*", "git status", True),
        ("git status:*", "git status -s", True),
        ("git status:*", "git statusx", False),
        ("git status *", "git status -s", True),
        ("ls*", "lsof", True),
        ("ls *", "lsof", False),
        ("git * main", "git checkout main", True),
        ("git * main", "git checkout maint", False),
        ("* --version", "node --version", True),
        ("a*b*c", "abc", True),
        ("a*bc*bc", "abc", False),
    ],
)
def test_patterns_of_commands(rule: str, command: str, covered: bool) -> None:
    assert matches(rule, command) is covered


@pytest.mark.parametrize(
    "command",
    [
        "git status && evil",
        "git status || evil",
        "git status; evil",
        "git status | evil",
        "git status |& evil",
        "git status & evil",
        "git status\nevil",
        "git status\r\nevil",
        "git status $(evil)",
        "git status `evil`",
        'git status "$(evil)"',
        'git status "`evil`"',
        "git status ${x:=$(evil)}",
        "git status $IFS",
        "git status > ~/.bashrc",
        "git status >> x",
        "git status < <(evil)",
        "git status 2>&1x",
        "git status <<E\nE\nevil",
        "git status # '\nevil #'",
        "git status \\\nevil",
        "git status $'\\''; evil #'",
        "git status 'x",
        "(evil); git status",
        "{ evil; }; git status",
        "X=$(evil) git status",
        "PATH=. git status",
        "git status\u2028evil",
        "git status\u00a0evil",
        "git\x00 status",
        "git status \ud800",
        "git status-evil",
        " \n ",
        "",
    ],
)
def test_a_line_is_not_allowed_for_one_of_its_commands(command: str) -> None:
    assert bash(command, allow="Bash(git status:*)") is None


@pytest.mark.parametrize(
    "command",
    [
        "git status -s",
        "git status; git status -s",
        "git status && git log -1 --format='%h $(x)'",
        'git log -1 --grep "a; b | c"',
        "git status 2>&1 | git log",
        "git status 2>/dev/null",
        "git status >/dev/null 2>&1\ngit log\n",
        "git log -- 'ü/日本'",
        "git log 日本",
    ],
)
def test_a_line_is_allowed_if_all_of_its_commands_are(command: str) -> None:
    assert bash(command, allow=["Bash(git status:*)", "Bash(git log:*)"]) == "allow"


def test_a_line_that_the_rule_has_word_by_word_is_allowed() -> None:
    assert bash("mkdir x && touch $y", allow="Bash(mkdir x && touch $y)") == "allow"


@pytest.mark.parametrize("command", [None, 3, ["git status"], {"a": 1}])
def test_what_is_no_command_is_not_allowed_by_one(command: Any) -> None:
    assert bash(command, allow="Bash(git status:*)") is None
    assert bash(command, allow="Bash", deny="Bash(rm:*)") == "ask"


@pytest.mark.parametrize(
    "before", ["", "/usr/bin/", "sudo ", "sudo -n /usr/bin/", "A=b ", "for f in a; do ", "! ", "then "]
)
def test_a_denied_command_of_several_words_is_found_behind_what_runs_it(before: str) -> None:
    assert bash(f"{before}git push origin", allow="Bash", deny="Bash(git push:*)") == "deny"
    understood = "-n" not in before  # an option may take the word after it
    assert bash(f"{before}git pull push", allow="Bash", deny="Bash(git push:*)") == ("allow" if understood else "ask")


RUNS_ANOTHER = (
    "! do elif else if then until while builtin command coproc eval exec time doas env nice nohup setsid stdbuf"
)
RUNS_ANOTHER += " sudo timeout xargs"


@pytest.mark.parametrize("word", RUNS_ANOTHER.split())
def test_what_runs_another_command_hides_nothing(word: str) -> None:
    assert bash(f"{word} rm x", allow="Bash", deny="Bash(rm:*)") == "deny"
    assert bash(f"{word} -n 5 rm x", allow="Bash", deny="Bash(rm:*)") == "deny"


def test_a_rule_for_commands_does_not_allow_them_outside_the_sandbox() -> None:
    request = asked("Bash", command="git status", dangerouslyDisableSandbox=True)
    assert ruling(request, allow=["Bash(git status)", "Bash(git:*)"]) is None


@pytest.mark.parametrize(
    "command",
    ["rm x", "cd / && rm x", "ls\nrm x", "ls | xargs -n 1 rm x", "sudo -n rm x", "A=1 rm x", "/bin/rm x", "\\rm x"]
    + ["'rm' x", 'r"m" x', "$(rm x)", "`rm x`", "timeout 10 rm x", "{ rm x; }", "(rm x)", "if rm x; then ls; fi", "rm"]
    + ["rm\tx", "env -i A=b nice -n 5 rm x"],
)
def test_what_is_denied_is_found_wherever_it_stands(command: str) -> None:
    assert bash(command, allow="Bash", deny="Bash(rm:*)") == "deny"


@pytest.mark.parametrize(
    "command", ["bash -c 'ls; rm x'", "$X x", "r$()m x", 'git commit -m "ls; rm it"', "x" * 70_000]
)
def test_where_nobody_can_say_whether_it_is_denied_somebody_is_asked(command: str) -> None:
    rules = Rules(PermissionRules(allow=("Bash",), deny=("Bash(rm:*)",)), PLACE)
    found = rules.decide(asked("Bash", command=command))
    assert found is not None
    assert (found.behaviour, found.doubt, found.rule) == ("ask", True, "Bash(rm:*)")


@pytest.mark.parametrize(
    "command",
    [
        "A=1 B=2 C=3 D=4 E=5 F=6 G=7 H=8 git push",
        "A='x y' git push",
        "sudo -u root git push",
        "env -C /tmp git push",
        "timeout -s KILL 5 git push",
        "xargs -I % git push",
        "echo push | xargs git",
        "/usr/bin/gi[t] push",
        "git pus[h]",
        "git *",
        "git -C . push",
        'sh -c "git"" push"',
        "echo git push | sh",
        "find . -exec git push ';'",
        "flock x git push",
    ],
)
def test_what_is_not_understood_whole_is_asked_for(command: str) -> None:
    for kind in ("deny", "ask"):
        found = Rules(PermissionRules(allow=("Bash",), **{kind: ("Bash(git push:*)",)}), PLACE).decide(
            asked("Bash", command=command)
        )
        assert found is not None
        assert (found.behaviour, found.doubt) == ("ask", True)
    assert bash(command, allow="Bash") == "allow", "it is nobody's business where no rule forbids a command"


@pytest.mark.parametrize("end", ["2>/dev/null", ">/dev/null", "2>&1", "</dev/null"])
@pytest.mark.parametrize("word", ["'a'", '"a"', "ä"])
def test_a_redirection_that_is_glued_to_a_word_is_not_judged(word: str, end: str) -> None:
    """To a shell `'a'2>/dev/null` is the file a2."""
    assert simple_commands(f"rm {word}{end}") is None
    assert bash(f"rm {word}{end}", allow=f"Bash(rm {word})") is None
    assert bash(f"rm {word}{end}", allow="Bash", deny=f"Bash(rm {word}2)") in ("ask", "deny")
    assert bash(f"rm {word} {end}", allow=f"Bash(rm {word})") == "allow"


@pytest.mark.parametrize("command", ["A+=1 git push", "a[0]=1 git push", "git 2>/dev/null push"])
def test_what_stands_before_a_denied_command_hides_nothing(command: str) -> None:
    assert bash(command, allow="Bash", deny="Bash(git push:*)") == "deny"


@pytest.mark.parametrize(
    "command", ["git add *.py", "git -C . log", "[ -f x ] && git pushx", "find . -name '*.py'", "timeout 5 make"]
)
def test_what_is_understood_is_not_asked_for(command: str) -> None:
    assert bash(command, allow="Bash", deny="Bash(git push:*)") == "allow"


@pytest.mark.parametrize("rule", ["echo 'a b'", "echo  a", "ls && rm x"])
def test_what_a_rule_has_word_by_word_is_denied(rule: str) -> None:
    assert bash(rule, allow="Bash", deny=f"Bash({rule})") == "deny"


@pytest.mark.parametrize("command", ["ls -rm", "git rm x", "format x", "echo 'x rm'"])
def test_what_is_not_denied_is_allowed(command: str) -> None:
    assert bash(command, allow="Bash", deny="Bash(rm:*)") == "allow"


WORDS = [
    "ok",
    "evil",
    " ",
    "\t",
    "\n",
    "\r",
    ";",
    "&",
    "|",
    "'",
    '"',
    "`",
    "$(",
    ")",
    "(",
    "{",
    "}",
    "#",
    "\\",
    ">",
    "<",
]
WORDS += [
    "<<",
    "$'",
    "=",
    "!",
    "$x",
    "${x",
    "/dev/null",
    "1",
    "a",
    "if ",
    "then ",
    "~",
    "*",
    "; ok ",
    "&& ok ",
    "\nok ",
    "'evil'",
    '"evil"',
    "2>&1",
    " ok ",
    "\u00a0",
    "-",
    "[",
    "]",
]


@pytest.fixture(scope="module")
def shell_directory() -> Iterator[Path]:
    """Programs of which one leaves a trace, in a directory for what a line may write."""
    bash_path = shutil.which("bash")
    if bash_path is None:
        pytest.skip("no bash")
    with tempfile.TemporaryDirectory() as scratch:
        programs = Path(scratch, "programs")
        programs.mkdir()
        for name, does in (("ok", "true"), ("evil", f"echo > {scratch}/evil-has-run")):
            (programs / name).write_text(f"#!/bin/sh\n{does}\n")
            (programs / name).chmod(0o755)
        yield Path(scratch)


@settings(max_examples=300)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), space=st.booleans())
def test_what_is_allowed_runs_nothing_else_in_a_real_shell(
    shell_directory: Path, words: list[str], space: bool
) -> None:
    command = "ok" + (" " if space else "") + "".join(words)
    if bash(command, allow="Bash(ok:*)") != "allow":
        return
    work = shell_directory / "work"
    work.mkdir(exist_ok=True)
    path = str(shell_directory / "programs")
    argv = [str(shutil.which("bash")), "--norc", "--noprofile", "-c", command]
    subprocess.run(
        argv, cwd=work, env={"PATH": path, "x": "evil"}, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert not (shell_directory / "evil-has-run").exists(), command
    assert list(work.iterdir()) == [], command


@given(st.text(st.sampled_from("ok \n;&|'\"$`()<>\\#evil"), max_size=40))
def test_each_command_of_an_allowed_line_is_covered(command: str) -> None:
    if bash(command, allow="Bash(ok:*)") == "allow":
        commands = simple_commands(command)
        assert commands
        assert all(one == "ok" or one.startswith("ok ") for one in commands)


@pytest.mark.parametrize("text", ["(", "'", '"a" ', "a;", "$(", "\\", "a*", " ", "a/", "\u2028", "<"])
def test_long_lines_are_asked_for_and_read_within_bounds(text: str) -> None:
    """With as many rules as there may be; what it takes is bounded by the test's own time-out."""
    allow, deny = (f"Bash(a*b*c*d*{number})" for number in range(200)), (f"Bash(z*y*{number})" for number in range(200))
    rules = Rules(PermissionRules(allow=tuple(allow), deny=tuple(deny)), PLACE)
    found = rules.decide(asked("Bash", command=text * (10_000_000 // len(text))))
    assert found is not None
    assert found.behaviour == "ask"
    for length in (LONGEST_COMMAND, LONGEST_COMMAND // 100):
        rules.decide(asked("Bash", command=text * (length // len(text))))


def test_a_line_is_read_to_its_end_or_not_at_all() -> None:
    fits = "ok " + "x" * (LONGEST_COMMAND - 3)
    assert bash(fits, allow="Bash(ok:*)") == "allow"
    assert bash(f"{fits}x", allow="Bash(ok:*)") is None
    assert bash("ok;" * (MOST_COMMANDS - 1) + "ok", allow="Bash(ok:*)") == "allow"
    assert bash("ok;" * MOST_COMMANDS + "ok", allow="Bash(ok:*)") is None
    assert bash("ok;" * MOST_COMMANDS + "rm x", allow="Bash", deny="Bash(rm:*)") == "ask"
    assert bash(f"{fits}x; rm x", allow="Bash", deny="Bash(rm:*)") == "ask"


# Paths


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("./src/**", "/shop/src/a/b.py", True),
        ("./src/**", "/shop/src", False),
        ("./src", "/shop/src/a", True),
        ("src/*.py", "/shop/src/a.py", True),
        ("src/*.py", "/shop/src/deep/a.py", False),
        ("*.py", "/shop/src/deep/a.py", True),
        ("*.py", "/other/a.py", False),
        ("/src/**", "/shop/src/a", True),
        ("/src/**", "/src/a", False),
        ("//etc/**", "/etc/passwd", True),
        ("//etc/**", "/etcetera/x", False),
        ("~/docs/**", "/home/me/docs/a", True),
        ("~/docs/**", "/home/you/docs/a", False),
        ("**", "/shop/a", True),
        ("**/a/**/b", "/shop/x/a/y/z/b", True),
        ("./**", "/shop/../etc/passwd", False),
        ("./src/**", "/shop/src/../../etc/passwd", False),
        ("./**", "/workshop/a", False),
        ("./**", "src/a", False),
        ("./**", "~/a", False),
        ("./**", "", False),
        ("./[ab].txt", "/shop/a.txt", True),
        ("./[ab].txt", "/shop/c.txt", False),
        ("./**", "/shop/" + "a/" * 3000, False),
    ],
)
def test_patterns_of_paths(pattern: str, path: str, covered: bool) -> None:
    assert (ruling(asked("Read", file_path=path), allow=f"Read({pattern})") == "allow") is covered
    assert (ruling(asked("Write", file_path=path), allow=f"Edit({pattern})") == "allow") is covered
    assert ruling(asked("Write", file_path=path), allow=f"Read({pattern})") is None


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("./.env", "/shop/.env"), ("./.env", "/shop/x/../.env"), ("./.env", ".env"), (".env", "x/.env")]
    + [("~/.ssh/**", "~/.ssh/id"), ("~/.ssh/**", "/home/me/.ssh/id"), ("/etc/**", "/etc/passwd"), ("/x", "/shop/x")],
)
def test_denied_paths(pattern: str, path: str) -> None:
    assert ruling(asked("Read", file_path=path), allow="Read", deny=f"Read({pattern})") == "deny"


def test_only_the_argument_that_the_tool_takes_counts() -> None:
    request = asked("NotebookEdit", file_path="/shop/a", notebook_path="/etc/x")
    assert ruling(request, allow="Edit(./**)") is None
    assert ruling(asked("Write", file_path=["/shop/a"]), allow="Edit(./**)") is None
    assert ruling(asked("Write", path="/shop/a"), allow="Edit(./**)", deny="Edit(./b)") == "ask"


def test_a_link_leads_nowhere_that_the_rule_does_not_cover(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "src").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (work / "src" / "out").symlink_to(tmp_path / "secret")
    (work / "src" / "in").symlink_to(work / "src")
    place = Place.of(ClaudeInstance.of(name="a", kind="local", workspace=work))
    read = "Read(./src/**)"
    assert ruling(asked("Read", file_path=f"{work}/src/new/file"), place, allow=read) == "allow"
    assert ruling(asked("Read", file_path=f"{work}/src/in/file"), place, allow=read) == "allow"
    assert ruling(asked("Read", file_path=f"{work}/src/out/file"), place, allow=read) is None
    assert ruling(asked("Read", file_path=f"{work}/src/out/../src/x"), place, allow=read) is None
    secret = f"Read(/{tmp_path}/secret/**)"
    assert ruling(asked("Read", file_path=f"{work}/src/out/file"), place, allow="Read", deny=secret) == "deny"


def test_a_workspace_that_is_reached_by_a_link_is_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "shop").symlink_to(tmp_path / "real")
    place = Place.of(ClaudeInstance.of(name="a", kind="local", workspace=tmp_path / "shop"))
    assert ruling(asked("Write", file_path=f"{tmp_path}/shop/a"), place, allow="Edit(./**)") == "allow"


def test_in_a_container_only_the_workspace_can_be_judged(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "link").symlink_to("/etc")
    record = ClaudeInstance.of(name="a", kind="docker", image="x", workspace=tmp_path, mounts=["/tmp:/workspace/mnt"])
    place = Place.of(record, engine_is_here=True)
    allow = ["Read(./**)", "Read(//etc/**)"]
    assert ruling(asked("Read", file_path="/workspace/src/a"), place, allow=allow) == "allow"
    assert ruling(asked("Read", file_path="/workspace/new/a"), place, allow=allow) == "allow"
    hidden = ("/workspace//mnt/a", "/workspace/./mnt/a", "//workspace/mnt/a", "/workspace/src/./link/a")
    for path in ("/workspace/src/link/passwd", "/workspace/mnt/a", "/etc/passwd", "/workspace/src/../a", *hidden):
        assert ruling(asked("Read", file_path=path), place, allow=allow) is None, path
    assert ruling(asked("Read", file_path="/etc/passwd"), place, deny="Read(//etc/**)") == "deny"
    assert ruling(asked("Read", file_path="/opt/x"), place, allow="Read", deny="Read(//etc/**)") == "ask"
    home = "/home/cc-bridge/.ssh/id"
    assert ruling(asked("Read", file_path=home), place, allow="Read", deny="Read(~/.ssh/**)") == "deny"
    elsewhere = Place.of(record)  # on another machine, whose directory this is not
    assert ruling(asked("Read", file_path="/workspace/src/a"), elsewhere, allow=allow) is None
    assert ruling(asked("Read", file_path="/workspace/.env"), elsewhere, deny="Read(./.env)") == "deny"


@pytest.mark.parametrize(
    ("tool", "given", "expected"),
    [
        ("Grep", {"path": "/shop/src", "pattern": "x"}, "allow"),
        ("Grep", {"path": "/shop", "pattern": "x"}, None),
        ("Grep", {"pattern": "x"}, None),
        ("Glob", {"path": "/shop/src", "pattern": "**/*.py"}, "allow"),
        ("Glob", {"path": "/shop/src", "pattern": "../*"}, None),
        ("Glob", {"path": "/shop/src", "pattern": "/etc/*"}, None),
        ("Glob", {"path": "/shop/src", "pattern": "~/*"}, None),
    ],
)
def test_a_search_is_allowed_where_all_that_it_may_read_is(tool: str, given: dict[str, str], expected: Any) -> None:
    assert ruling(PermissionRequest("r", tool, given), allow="Read(./src/**)") == expected


def test_a_search_that_may_read_what_is_denied_is_asked_for() -> None:
    request = asked("Grep", path="/shop", pattern="x")
    assert ruling(request, allow="Read", deny="Read(./.env)") == "ask"
    assert ruling(asked("Grep", path="/shop/.env", pattern="x"), allow="Read", deny="Read(./.env)") == "deny"


PARTS = st.sampled_from(["..", ".", "", "src", "secret", "a", "link", "~", "src\0", "ſrc", "SRC", "*"])


@pytest.mark.parametrize("path", ["notes", "../../passwd", "./a/../b"])
def test_what_a_path_is_relative_to_only_claude_code_knows(path: str) -> None:
    """So a rule may forbid it, wherever that is."""
    assert ruling(asked("Read", file_path=path), allow="Read", deny="Read(//etc/**)") == "ask"
    assert ruling(asked("Read", file_path="notes"), allow="Read", deny="Read(./notes)") == "deny"
    assert ruling(asked("Read", file_path="/shop/notes"), allow="Read", deny="Read(//etc/**)") == "allow"
    assert ruling(asked("Read", file_path="~/notes"), allow="Read", deny="Read(//etc/**)") == "allow"


@given(st.lists(PARTS, max_size=8), st.booleans())
def test_no_path_outside_is_ever_allowed(parts: list[str], absolute: bool) -> None:
    path = ("/shop/src/" if absolute else "") + "/".join(parts)
    if ruling(asked("Write", file_path=path), allow="Edit(./src/**)") == "allow":
        assert os.path.normpath(path).startswith("/shop/src/")


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org.evil.com/",
        "http://example.org@evil.com/",
        "http://evil.com\\@example.org/",
        "http://evil.com/\\example.org",
        "http://evil.com#@example.org/",
        "http://exam\tple.org/",
        "http://example.org\n.evil.com/",
        " http://example.org/",
        "http:/example.org/",
        "ftp://example.org/",
        "//example.org/",
        "http://example%2eorg/",
        "http://example\u3002org/",
        "http://sub.example.org/",
        "http://example.org:80@evil.com/",
        "http://" + "a" * 10_000,
        None,
        ["http://example.org/"],
    ],
)
def test_addresses_of_another_host_are_not_allowed(url: Any) -> None:
    assert ruling(asked("WebFetch", url=url), allow="WebFetch(domain:example.org)") is None


@pytest.mark.parametrize("url", ["https://example.org", "http://EXAMPLE.org:8080/a?b#c", "http://example.org./x"])
def test_addresses_of_the_host(url: str) -> None:
    assert ruling(asked("WebFetch", url=url), allow="WebFetch(domain:example.org)") == "allow"
    assert ruling(asked("WebFetch", url=url), allow="WebFetch", deny="WebFetch(domain:Example.org)") == "deny"


def test_addresses_beneath_a_domain() -> None:
    rule = "WebFetch(domain:*.example.org)"
    assert ruling(asked("WebFetch", url="http://a.b.example.org/"), allow=rule) == "allow"
    assert ruling(asked("WebFetch", url="http://example.org/"), allow=rule) is None
    assert ruling(asked("WebFetch", url="http://badexample.org/"), allow=rule) is None


@pytest.mark.parametrize("url", ["http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://[::ffff:127.0.0.1]/"])
def test_an_address_in_another_spelling_is_asked_for_where_addresses_are_denied(url: str) -> None:
    assert ruling(asked("WebFetch", url=url), allow="WebFetch", deny="WebFetch(domain:127.0.0.1)") == "ask"


def test_an_address_in_the_spelling_that_all_read_alike() -> None:
    denied = {"allow": "WebFetch", "deny": "WebFetch(domain:127.0.0.1)"}
    assert ruling(asked("WebFetch", url="http://127.0.0.1:8080/"), **denied) == "deny"
    assert ruling(asked("WebFetch", url="http://10.0.0.1/"), **denied) == "allow"
    assert ruling(asked("WebFetch", url="http://example.org/"), **denied) == "allow"
    assert ruling(asked("WebFetch", url="http://127.1/"), allow="WebFetch", deny="WebFetch(domain:evil.org)") == "allow"


def test_an_address_that_nobody_can_read_is_asked_for_where_some_are_denied() -> None:
    request = asked("WebFetch", url="http://x\\@example.org")
    assert ruling(request, allow="WebFetch", deny="WebFetch(domain:example.org)") == "ask"


# Suggestions, and the record


def test_what_claude_code_suggests_as_rules() -> None:
    rules = [{"toolName": "Bash", "ruleContent": "npm run *"}, {"toolName": "WebSearch"}, {"toolName": 3}, "x"]
    suggestions = ({"type": "addRules", "behavior": "allow", "rules": rules}, {"type": "setMode"}, None)
    assert suggested_rules(PermissionRequest("r", "Bash", {}, suggestions)) == ["Bash(npm run *)", "WebSearch"]


def test_always_is_written_into_the_record_and_holds_at_once(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state")
    home = registry.home("demo")
    home.prepare()
    home.save(
        ClaudeInstance.of(name="demo", kind="local", workspace=Path("/"), rules=PermissionRules(deny=("Bash(rm:*)",)))
    )
    write = allow_always(registry)
    write("demo", "Bash(ls:*)")
    write("demo", "Bash(ls:*)")
    assert registry.load("demo").rules == PermissionRules(allow=("Bash(ls:*)",), deny=("Bash(rm:*)",))
    found = kept_rules(registry)("demo").decide(asked("Bash", command="ls -l"))
    assert found is not None
    assert (found.behaviour, found.rule) == ("allow", "Bash(ls:*)")
    with pytest.raises(InvalidInput, match="no permission rule"):
        write("demo", "rm everything")
