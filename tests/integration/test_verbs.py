"""The verbs for containers and images, with a real engine and a real terminal. covers: G10"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import termios
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cc_bridge.instances.registry import Registry
from cc_bridge.state import Installation
from cc_bridge.testing import ScriptedModel
from tests.command import COMMAND, Terminal, cc

pytestmark = [pytest.mark.docker, pytest.mark.long]

Up = Callable[..., str]


@pytest.fixture
def options(scripted_model: ScriptedModel, workspace: Path, images: Any) -> list[str]:
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env().items()]
    return [f"--image={images.claude}", "--network=host", f"--workspace={workspace}", *env]


@pytest.fixture
def up(options: list[str]) -> Iterator[Up]:
    """Brings an instance up; it is removed at the end."""
    made: list[str] = []

    def bring(*more: str) -> str:
        name = f"verb-{uuid.uuid4().hex[:8]}"
        made.append(name)
        done = cc("up", name, *options, *more)
        assert done.returncode == 0, done.stderr
        return name

    yield bring
    cc("rm", "--force", "--conversation", *[name for name in made if name in Registry().names()])


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout.strip()


def container(name: str) -> str:
    return f"cc-bridge-{name}-{Installation.at().id}"


def test_exec(up: Up) -> None:
    """covers: C14: buffered by a pipe or not, exit code, stdin, user."""
    name = up()
    done = cc("exec", name, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert cc("exec", "-i", name, "--", "cat", "-A", input="from here\n").stdout == "from here$\n"
    assert cc("exec", "--user=0", name, "id", "-u").stdout == "0\n"
    local = cc("exec", "no-such", "true")
    assert (local.returncode, "no instance 'no-such'" in local.stderr) == (2, True)


def test_a_shell_on_a_terminal(up: Up) -> None:
    """covers: C14: a real TTY, its size, its keys; and the terminal is as it was."""
    name = up()
    with Terminal(
        ["sh", "-c", f"stty rows 40 cols 111; {shlex.join([*COMMAND, 'shell', name])}; stty -a; exit 5"]
    ) as person:
        person.type("stty size; test -t 0 && echo a t''ty; whoami\r")
        person.wait_for("40 111")
        person.wait_for("a tty")
        person.type("sh -c 'trap \"stty size\" WINCH; echo re''ady; while :; do sleep 0.1; done'\r")
        person.wait_for("ready")
        fcntl.ioctl(person.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        person.wait_for("33 99")
        person.type("\x03")
        person.wait_for("$ ")
        person.type("sh -c 'echo sl\"\"eeps; exec sleep 50'\r")  # which has the terminal when it says so
        person.wait_for("sleeps")
        person.type("\x03")
        person.wait_for("$ ")
        person.type("echo status $?; exit\r")
        person.wait_for("status 130")
        person.wait_for(" echo ")
        assert person.end() == 5
    refused = cc("shell", name, stdin=subprocess.DEVNULL)
    assert (refused.returncode, "no terminal" in refused.stderr) == (2, True)


def test_files_both_ways(up: Up, tmp_path: Path) -> None:
    """covers: G10"""
    name = up()
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("content")
    assert cc("cp", str(tmp_path / "dir"), f"{name}:/workspace").stdout == f"{name}:/workspace/dir\n"
    assert cc("exec", name, "cat", "/workspace/dir/file").stdout == "content"
    assert cc("cp", f"{name}:/workspace/dir", str(tmp_path / "back")).stdout == f"{tmp_path}/back\n"
    assert (tmp_path / "back" / "file").read_text() == "content"
    again = cc("cp", f"{name}:/workspace/dir", str(tmp_path / "back" / "file"))
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    refused = cc("cp", str(tmp_path / "dir"), f"{name}:/usr/x")
    assert (refused.returncode, "read-only" in refused.stderr) == (2, True), refused.stderr
    packed = subprocess.run([*COMMAND, "cp", f"{name}:/workspace/dir", "-"], capture_output=True, check=True).stdout
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-x", "-C", str(tmp_path / "unpacked")], input=packed, check=True)
    assert (tmp_path / "unpacked" / "dir" / "file").read_text() == "content"
    put = subprocess.run(
        [*COMMAND, "cp", "-", f"{name}:/home/cc-bridge"], input=packed, capture_output=True, check=False
    )
    assert put.returncode == 0, put.stderr
    assert cc("exec", name, "sh", "-c", "cat ~/dir/file; test -O ~/dir/file && echo mine").stdout == "contentmine\n"
    for words, said in ((["-", f"{name}:/no/such"], "no directory"), (["-", f"{name}:/tmp"], "no tar archive")):
        bad = cc("cp", *words, input="nothing")
        assert (bad.returncode, said in bad.stderr) == (2, True), bad.stderr
    assert cc("cp", "a", "b").returncode == 2
    assert cc("cp", f"{name}:/no/such", str(tmp_path)).returncode == 2
    assert cc("cp", str(tmp_path / "none"), f"{name}:/workspace").returncode == 2


def test_stats_logs_ps_and_info(up: Up) -> None:
    """covers: M10, G10"""
    name = up("--memory=700m")
    (row,) = [row for row in json.loads(cc("stats", "--json").stdout) if row["name"] == name]
    assert row["memory_limit"] == 700 * 1024**2
    assert 0 < row["memory"] < row["memory_limit"]
    assert re.search(rf"{name} +[\d.]+% +[\d.]+ MiB / 700.0 MiB", cc("stats", "--no-stream", name).stdout)
    first, *_ = cc("logs", "--json", name).stdout.splitlines()
    assert json.loads(first)["event"] == "listening"
    assert re.match(r"[\d-]{10} [\d:]{8}  listening  pid=\d+ ", cc("logs", name).stdout)
    assert len(cc("logs", "--tail=1", name).stdout.splitlines()) == 1
    assert cc("logs", "--since=0s", name).stdout == ""
    assert cc("logs", "--since=tomorrow", name).returncode == 2
    listed = json.loads(cc("ps", "--json", "--filter=status=run*", f"--filter=name={name}").stdout)
    assert [(row["name"], row["kind"], row["status"]) for row in listed] == [(name, "docker", "running")]
    assert cc("ps", "-q", "--filter=kind=local").stdout == ""
    assert cc("ps", "--filter=colour=red").returncode == 2
    with Terminal([*COMMAND, "stats", name]) as person:
        person.wait_for("MEMORY / LIMIT")
        person.wait_for(name)
        person.type("\x03")
        assert person.end() == 130


def test_stats_of_the_others_where_a_container_is_somebody_elses(up: Up) -> None:
    name, lost = up(), up()
    listing = ["docker", "ps", "--filter", f"label=cc-bridge.instance={lost}", "--format", "{{.Names}} {{.Image}}"]
    container, image = subprocess.check_output(listing, text=True).split()
    subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)
    subprocess.run(["docker", "create", "--name", container, image], check=True, capture_output=True)
    try:
        rows = {row["name"]: row for row in json.loads(cc("stats", "--json").stdout)}
        assert rows[name]["memory"] > 0
        assert container in rows[lost]["problem"]
        assert container in cc("stats", "--no-stream").stdout
        only = cc("stats", lost)
        assert (only.returncode, container in only.stderr) == (3, True)
    finally:
        subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)


def test_logs_followed_until_ctrl_c(up: Up) -> None:
    """covers: M10"""
    name = up()
    with subprocess.Popen([*COMMAND, "logs", "-f", name], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "listening" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130


def test_stop_start_restart_and_the_conversation_goes_on(up: Up, scripted_model: ScriptedModel) -> None:
    """covers: M7, G5: the second command needs no options."""
    name = up()
    assert cc("send", name, "[[say one]] the first words").stdout == "one\n"
    for verb in (("stop",), ("start",), ("restart",)):
        assert cc(*verb, name).returncode == 0
        status = docker("inspect", "-f", "{{.State.Status}}", container(name))
        assert status == ("exited" if verb == ("stop",) else "running")
    assert cc("send", name, "[[say two]]").stdout == "two\n"
    assert "the first words" in json.dumps(scripted_model.requests[-1].body["messages"])


def test_verbose_prints_commands_that_work_when_pasted(up: Up, options: list[str]) -> None:
    """covers: G7, M2, M4"""
    name = f"verb-{uuid.uuid4().hex[:8]}"
    done = cc("--verbose", "up", name, *options, "--env=MY_TOKEN=sesame-4711")
    assert done.returncode == 0, done.stderr
    assert "sesame-4711" not in done.stderr
    text = done.stderr.split("+ docker create ", 1)[1]
    command = "docker create " + text.split("\ncc-bridge:", 1)[0]
    before = json.loads(docker("inspect", container(name)))[0]
    try:
        assert cc("rm", "--force", "--conversation", name).returncode == 0
        for mount in before["Mounts"]:
            if not Path(mount["Source"]).exists():
                Path(mount["Source"]).mkdir(parents=True)
        docker_, *_words = shlex.split(command)
        assert docker_ == "docker"
        pasted = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert pasted.returncode == 0, pasted.stderr
        after = json.loads(docker("inspect", pasted.stdout.strip()))[0]
        for key in ("Memory", "NanoCpus", "CpuShares", "PidsLimit", "CapDrop", "SecurityOpt", "ReadonlyRootfs", "Tmpfs",
                    "NetworkMode", "LogConfig", "RestartPolicy", "Init", "AutoRemove"):  # fmt: skip
            assert after["HostConfig"][key] == before["HostConfig"][key], key
        # The engine keeps them in any order.
        assert sorted(after["Config"]["Env"]) == sorted(before["Config"]["Env"])
        for key in ("User", "Entrypoint", "WorkingDir"):
            ours = before["Config"]["Entrypoint"] + (before["Config"]["Cmd"] or [])
            theirs = after["Config"]["Entrypoint"] + (after["Config"]["Cmd"] or [])
            assert ours == theirs
            if key != "Entrypoint":
                assert after["Config"][key] == before["Config"][key], key
        places = [{mount["Destination"] for mount in found["Mounts"]} for found in (before, after)]
        assert places[0] == places[1]
    finally:
        subprocess.run(["docker", "rm", "-f", container(name)], capture_output=True, check=False)
        Registry().home(name).remove()
    starts = [line for line in done.stderr.splitlines() if line.startswith("+ docker start")]
    assert starts == [f"+ docker start {container(name)}"]


def test_a_dockerfile_is_built_once(workspace: Path, scripted_model: ScriptedModel, images: Any) -> None:
    """covers: G1, G2, G3: --docker in a directory with a Dockerfile; what .dockerignore names changes nothing."""
    mark = uuid.uuid4().hex
    (workspace / "Dockerfile").write_text(f"FROM {images.claude}\nCOPY hello /hello\n# {mark}\n")
    (workspace / "hello").write_text("hello")
    (workspace / ".dockerignore").write_text("*.log\n")
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env().items()]
    words = ["run", "[[say built]]", "--docker", "--network=host", f"--workspace={workspace}", *env]
    names = set()
    try:
        first = cc("--verbose", *words)
        assert (first.returncode, first.stdout) == (0, "built\n"), first.stderr
        (name,) = re.findall(r"building (cc-bridge-auto:[0-9a-f]{12}) ", first.stderr)
        names.add(name)
        assert "Step 2/" in first.stderr
        (workspace / "more.log").write_text("ignored")
        again = cc("--verbose", *words)
        assert (again.returncode, again.stdout) == (0, "built\n"), again.stderr
        assert "building" not in again.stderr
        assert f"image={name}" in again.stderr
        (workspace / "hello").write_text("changed")
        other = cc("image", "build", str(workspace))
        names.add(other.stdout.strip())
        assert len(names) == 2
        assert names <= {row["name"] for row in json.loads(cc("image", "list", "--json").stdout)}
        said = cc("prune", "--dry-run", "--images").stdout
        assert all(name in said for name in names)
        assert images.claude not in said, "the default image is in use"
        (workspace / "Dockerfile").write_text(f"FROM {images.claude}\nRUN echo the reason; false\n")
        broken = cc(*words, f"--dockerfile={workspace}/Dockerfile")
        assert broken.returncode == 3
        assert "the reason" in broken.stderr
    finally:
        subprocess.run(["docker", "rmi", *names], capture_output=True, check=False)


def test_a_project_s_dockerfile_needs_no_claude_code(
    workspace: Path, scripted_model: ScriptedModel, images: Any
) -> None:
    """covers: G1, G2: it is put on top of what was built, once."""
    mark = uuid.uuid4().hex
    (workspace / "Dockerfile").write_text(f"FROM {os.environ['CC_BRIDGE_BASE_IMAGE']}\n# {mark}\n")
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env().items()]
    words = ["run", "[[say built]]", "--docker", "--network=host", f"--workspace={workspace}", *env]
    first = cc("--verbose", *words)
    names = re.findall(r"building (cc-bridge-auto:[0-9a-f-]+) ", first.stderr)
    try:
        assert (first.returncode, first.stdout) == (0, "built\n"), first.stderr
        assert names[1].startswith(f"{names[0]}-")
        again = cc("--verbose", *words)
        assert (again.returncode, again.stdout) == (0, "built\n"), again.stderr
        assert "building" not in again.stderr
        assert "cc-bridge-look" not in again.stderr
    finally:
        subprocess.run(["docker", "rmi", *reversed(names)], capture_output=True, check=False)


def test_a_dockerfile_that_claude_code_may_have_written_is_built_only_when_somebody_says_yes(
    workspace: Path, scripted_model: ScriptedModel, images: Any
) -> None:
    """covers: T1, G1"""
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env().items()]
    shared = ["--docker", "--network=host", f"--workspace={workspace}", *env]
    assert cc("run", "[[say first]]", f"--image={images.claude}", *shared).stdout == "first\n"
    mark, trace = uuid.uuid4().hex, "\x1b]0;pwned\x07"
    (workspace / "Dockerfile").write_text(f"FROM {images.claude}\n# {mark} {trace}\n")
    refused = cc("run", "[[say built]]", *shared)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "has appeared or changed since Claude Code could write there" in refused.stderr
    assert f"--dockerfile {workspace}/Dockerfile" in refused.stderr
    assert cc("image", "build", str(workspace)).returncode == 2
    try:
        for answer, code in (("n", 2), ("y", 0)):
            with Terminal([*COMMAND, "run", "[[say built]]", *shared]) as person:
                person.wait_for(mark)
                person.wait_for("Build it")
                person.type(f"{answer}\r")
                person.wait_for("built" if code == 0 else "has appeared")
                assert person.end() == code
        assert cc("run", "[[say built]]", *shared).stdout == "built\n", "the yes is remembered"
    finally:
        found = docker("images", "-q", "--filter", f"label=cc-bridge.dockerfile={workspace}/Dockerfile").split()
        subprocess.run(["docker", "rmi", "-f", *found], capture_output=True, check=False)


@pytest.mark.timeout(600)  # packages are fetched
@pytest.mark.parametrize("name", ["minimal", "development", "python"])
def test_a_template_builds_and_is_not_root(name: str, tmp_path: Path, images: Any) -> None:
    """covers: G8"""
    text = cc("image", "template", name).stdout
    assert "USER claude" in text
    (tmp_path / "Dockerfile").write_text(text)
    done = cc("image", "build", str(tmp_path), timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    image = done.stdout.strip()
    try:
        script = "id -u; claude --version; python3 -V"
        assert docker("run", "--rm", image, "sh", "-c", script).startswith("1000\n2.")
        tools = {"development": "git curl vim jq rg", "python": "git rg gcc", "minimal": "python3"}[name]
        docker("run", "--rm", image, "sh", "-c", f"for tool in {tools}; do command -v $tool || exit 1; done")
    finally:
        subprocess.run(["docker", "rmi", image], capture_output=True, check=False)


def test_image_errors(engine: None) -> None:
    """covers: G9, M14"""
    assert cc("image", "template").stdout.split() == ["development", "minimal", "python"]
    assert cc("image", "template", "nonsense").returncode == 2
    missing = cc("image", "pull", "cc-bridge-no-such-image:1")
    assert (missing.returncode, "cannot be pulled" in missing.stderr or "none to pull" in missing.stderr) == (3, True)


def loose_limits(name: str) -> set[str]:
    done = cc("doctor", "--json", "--isolation", name)
    assert done.returncode == 1, done.stderr
    return {item["limit"] for item in json.loads(done.stdout) if not item["held"]}


def test_isolation_is_tried(up: Up) -> None:
    """covers: B15, M2: everything holds; and what is loosened on purpose is found."""
    name = up("--memory=700m")
    tight = cc("doctor", "--isolation", name)
    assert tight.returncode == 0, tight.stdout
    assert "LOOSE" not in tight.stdout
    assert tight.stdout.count("held ") >= 12
    assert cc("send", name, "[[say alive]]").stdout == "alive\n"
    loose = up("--memory=700m", "--writable", "--docker-socket")
    assert loose_limits(loose) == {"read-only root", "engine"}
    docker("update", "--memory=2g", "--memory-swap=2g", "--pids-limit=-1", container(name))
    assert loose_limits(name) == {"memory", "processes"}


def test_a_worktree(
    scripted_model: ScriptedModel, workspace: Path, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """covers: G6, T1: a branch of its own, combined with Docker; it goes when merged, stays when not, and when asked.

    In its container git works, and of the repository only what it needs for that can be written.
    """
    for number, (key, value) in enumerate({"safe.directory": "*", "user.name": "x", "user.email": "x@y"}.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "3")

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(workspace), *words], check=True, capture_output=True, text=True).stdout

    git("init", "-b", "main")
    git("commit", "--allow-empty", "-m", "first")
    names = [f"verb-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    env = [f"--env={key}={value}" for key, value in scripted_model.claude_env().items()]
    words = [f"--image={images.claude}", "--network=host", f"--workspace={workspace}", *env]
    for name, branch in zip(names, ("idea/one", "idea/two"), strict=True):
        done = cc("up", name, f"--worktree={branch}", *words)
        assert done.returncode == 0, done.stderr
    trees = {name: Path(json.loads(cc("info", "--json", name).stdout)["workspace"]) for name in names}
    assert len(set(trees.values())) == 2
    said = cc("exec", names[0], "git", "-c", "safe.directory=*", "rev-parse", "--abbrev-ref", "HEAD")
    assert said.stdout == "idea/one\n", said.stderr
    assert cc("send", names[0], "[[say there]]").stdout == "there\n"
    common = workspace / ".git"
    own = "git -c safe.directory='*' -c user.name=x -c user.email=x@y"
    hostile = [f"echo evil >{common}/hooks/post-checkout", f"echo evil >>{common}/config"]
    hostile += [f"echo evil >{common}/info/attributes", f"rm -rf {common}/worktrees/{trees[names[1]].name}"]
    hostile += [f"ln -s / {common}/worktrees/x", f"{own} config core.fsmonitor /evil", f"{own} worktree prune"]
    script = "; ".join(hostile)
    cc("exec", "--user=0", names[0], "sh", "-c", script)
    assert "evil" not in (common / "config").read_text()
    assert not (common / "hooks" / "post-checkout").exists()
    assert not (common / "info" / "attributes").exists()
    assert sorted(path.name for path in (common / "worktrees").iterdir()) == sorted(t.name for t in trees.values())
    commit = f"echo x >y && {own} add y && {own} commit -q -m y && {own} reset -q --hard HEAD~1"
    done = cc("exec", "--user=0", names[0], "sh", "-c", commit)
    assert done.returncode == 0, done.stderr
    (trees[names[1]] / "new").write_text("not committed")
    gone = cc("rm", "--force", *names)
    assert gone.returncode == 0, gone.stderr
    assert not trees[names[0]].exists(), "all of it was merged"
    assert trees[names[1]].exists()
    assert "stays" in gone.stderr
    assert cc("up", names[1], "--worktree=idea/two", *words).returncode == 0
    assert (trees[names[1]] / "new").exists()
    assert cc("rm", "--force", "--worktree", "--conversation", *names[1:]).returncode == 0
    assert not trees[names[1]].exists()
    assert "idea/two" in git("branch")
    for branch in ("..", "main"):
        bad = cc("up", "verb-bad", f"--worktree={branch}", *words)
        assert bad.returncode == 2, branch
    cc("rm", "--conversation", names[0])


@pytest.mark.alone("subnets")
def test_volumes_and_networks_are_pruned_when_asked(up: Up) -> None:
    """covers: M8, M9, M12: not those in which an instance has its conversation."""
    name, project = up(), f"test-{uuid.uuid4().hex[:8]}"
    ours = ["--label", f"cc-bridge.install={Installation.at().id}", "--label", f"cc-bridge.project={project}"]
    docker("volume", "create", *ours, f"{project}-free")
    docker("volume", "create", *ours, "--label", f"cc-bridge.instance={name}", f"{project}-home")
    docker("network", "create", *ours, "--subnet", "172.29.99.0/24", project)
    try:
        said = cc("prune", "--dry-run", "--volumes").stdout
        assert (f"{project}-free" in said, f"{project}-home" in said) == (True, False)
        assert f"{project}-free" not in cc("prune", "--dry-run").stdout
        assert cc("prune", "--force", "--volumes").returncode == 0
        assert docker("volume", "ls", "-q", "--filter", f"name={project}") == f"{project}-home"
        assert docker("network", "ls", "-q", "--filter", f"name={project}") == ""
    finally:
        for words in (["volume", "rm", "-f", f"{project}-free", f"{project}-home"], ["network", "rm", project]):
            subprocess.run(["docker", *words], capture_output=True, check=False)


def test_this_users_login_read_only(
    up: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """covers: M3, M11: only when asked for; a restart policy, too."""
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    missing = cc("up", "verb-none", "--credentials", *options)
    assert (missing.returncode, "no login of Claude Code" in missing.stderr) == (2, True)
    assert "verb-none" not in Registry().names(), "half-made"
    (tmp_path / ".credentials.json").write_text("the login")
    (tmp_path / ".credentials.json").chmod(0o644)
    name = up("--credentials", "--restart=on-failure:3")
    path = "~/.claude/.credentials.json"
    said = cc("exec", name, "sh", "-c", f"cat {path}; echo x >{path}; touch ~/.claude/other && echo fine")
    assert said.stdout == "the loginfine\n"
    assert "Read-only" in said.stderr
    assert cc("send", name, "[[say with a login]]").stdout == "with a login\n"
    policy = json.loads(docker("inspect", container(name)))[0]["HostConfig"]["RestartPolicy"]
    assert policy == {"Name": "on-failure", "MaximumRetryCount": 3}
    without = up()
    assert cc("exec", without, "sh", "-c", f"cat {path}").returncode == 1


def test_prune_says_first(up: Up, images: Any) -> None:
    """covers: M12: containers whose instance is gone, those that were never started; nothing of others'."""
    kept, lost = up(), up()
    Registry().home(lost).remove()
    name = f"stranger-{uuid.uuid4().hex[:8]}"
    docker("create", "--name", name, "--label", "cc-bridge.install=another", images.bare, "true")
    try:
        said = cc("prune", "--dry-run")
        assert container(lost) in said.stdout
        assert container(kept) not in said.stdout
        assert name not in said.stdout
        assert container(lost) in docker("ps", "-a", "--format", "{{.Names}}")
        refused = cc("prune", stdin=subprocess.DEVNULL)
        assert (refused.returncode, "--force" in refused.stderr) == (2, True)
        with Terminal([*COMMAND, "prune"]) as person:
            person.wait_for("Remove 1?")
            person.type("n\r")
            assert person.end() == 0
        assert container(lost) in docker("ps", "-a", "--format", "{{.Names}}")
        assert cc("prune", "--force").returncode == 0
        left = docker("ps", "-a", "--format", "{{.Names}}").split()
        assert container(lost) not in left
        assert {container(kept), name} <= set(left)
    finally:
        docker("rm", "-f", name)


STEPS = ["starting", "+ docker create", "container created", "+ docker start", "container started", "connected"]


@pytest.mark.parametrize("step", STEPS)
def test_up_killed_at_any_step_is_put_right(options: list[str], step: str) -> None:
    """covers: C8, M12, R4: the next `up` makes it good; or, where the instance is given up, `prune`."""
    name = f"verb-{uuid.uuid4().hex[:8]}"
    try:
        for attempt in range(2):
            with subprocess.Popen([*COMMAND, "-v", "up", name, *options], stderr=subprocess.PIPE, text=True) as process:
                assert process.stderr is not None
                for line in process.stderr:
                    if step in line:
                        process.kill()
                        break
            if attempt == 0:
                again = cc("up", name, *([] if name in Registry().names() else options))
                assert again.returncode == 0, again.stderr
                assert cc("send", name, "[[say fine]]").stdout == "fine\n"
                assert cc("rm", "--force", "--conversation", name).returncode == 0
        Registry().home(name).remove()
        assert cc("prune", "--force").returncode == 0
        assert container(name) not in docker("ps", "-a", "--format", "{{.Names}}").split()
    finally:
        subprocess.run(["docker", "rm", "-f", container(name)], capture_output=True, check=False)
        Registry().home(name).remove()


def test_completion_knows_the_instances(up: Up) -> None:
    """covers: G10"""
    name = up()
    env = {
        **os.environ,
        "_CC_BRIDGE_COMPLETE": "complete_bash",
        "COMP_WORDS": f"cc-bridge logs {name[:7]}",
        "COMP_CWORD": "2",
    }
    assert name in subprocess.run(COMMAND, env=env, capture_output=True, text=True, check=False).stdout


def test_user_pids_and_ports(up: Up, options: list[str]) -> None:
    """covers: G2"""
    without_network = [option for option in options if not option.startswith("--network")]
    made = cc("up", "x", *without_network, "--network=host", "--publish=80")
    assert (made.returncode, "there are none to publish" in made.stderr) == (2, True)
    name = up("--user=1234:1234", "--pids=321")
    found = json.loads(docker("inspect", container(name)))[0]
    assert (found["Config"]["User"], found["HostConfig"]["PidsLimit"]) == ("1234:1234", 321)
    assert cc("exec", name, "id", "-u").stdout == "1234\n"


def test_a_port_is_published_on_loopback(images: Any, workspace: Path) -> None:
    name = f"verb-{uuid.uuid4().hex[:8]}"
    env = ["--env=ANTHROPIC_API_KEY=x"]
    try:
        done = cc("up", name, f"--image={images.claude}", f"--workspace={workspace}", "-p", "8000", *env)
        assert done.returncode == 0, done.stderr
        ((published,),) = json.loads(docker("inspect", container(name)))[0]["NetworkSettings"]["Ports"].values()
        assert published["HostIp"] == "127.0.0.1"
        assert published["HostPort"] in cc("info", name).stdout
    finally:
        cc("rm", "--force", "--conversation", name)


def test_in_a_container_that_is_there(images: Any, scripted_model: ScriptedModel) -> None:
    """It is used, and stays."""
    theirs = docker("run", "-d", "--network=host", "--entrypoint=sleep", images.claude, "600")
    try:
        env = [f"--env={key}={value}" for key, value in scripted_model.claude_env().items()]
        done = cc("run", "[[say hello]]", f"--container={theirs}", "--workspace=/tmp", *env)
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
        assert docker("inspect", "-f", "{{.State.Running}}", theirs) == "true"
        docker("kill", theirs)
        again = cc("run", "[[say started]]", f"--container={theirs}", "--workspace=/tmp", *env)
        assert (again.returncode, again.stdout) == (0, "started\n"), again.stderr
    finally:
        docker("rm", "-f", theirs)


def test_what_a_container_does_is_seen_and_looking_starts_nothing(up: Up) -> None:
    """Also where its pipes are gone, and in a container that was stopped."""

    def seen() -> dict[str, Any]:
        (row,) = json.loads(cc("ps", "--json", f"--filter=name={name}").stdout)
        return dict(row)

    name = up()
    argv = [*COMMAND, "send", name, "[[say so far]] [[hang]]"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sender:
        assert sender.stdout
        assert sender.stdout.read(len("so far")) == "so far"
        busy = seen()
        assert (busy["activity"], busy["channel"], busy["status"]) == ("busy", "pipes", "running")
        listen = Registry().home(name).pipes / "listen"
        listen.rename(listen.with_name("elsewhere"))
        assert (seen()["activity"], seen()["channel"]) == ("busy", "exec")
        listen.with_name("elsewhere").rename(listen)
        assert cc("interrupt", name).stdout == f"{busy['turn']}\n"
        sender.communicate(timeout=30)
    docker("stop", container(name))
    assert (seen()["activity"], seen()["status"]) == (None, "exited")
    assert busy["turn"] in cc("turns", name).stdout
    assert "> [[say so far]] [[hang]]" in cc("history", name).stdout
    assert cc("follow", name).returncode == 5
    found = {check["name"]: check["state"] for check in json.loads(cc("doctor", name, "--json").stdout)}
    assert (found["container"], found["conversation"]) == ("note", "ok")
    assert docker("inspect", "-f", "{{.State.Running}}", container(name)) == "false", "looking has started it"
