"""The service that a record asks for, in the engine's words; no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..engine.container_spec import CONTAINER_HOME
from ..engine.labels import LABEL, OWN_LABELS
from ..errors import InvalidInput
from ..mounts import split_mount
from ..record import ClaudeInstance
from .container_agent import AGENT, MAIN, STATE
from .container_plan import ContainerPlan
from .outline import workdir
from .outside import agent_words, surroundings
from .place import GRACE, LINGER

__all__ = ["RECORD", "SEALED_NETWORK", "WAITING", "ServicePlan", "record_in", "service_name"]

#: The label of a service that has the record, without anything secret or of one machine only.
RECORD = f"{LABEL}.record"

#: The network of containers that are to have none, until they have none: Swarm can make no container without.
SEALED_NETWORK = f"{LABEL}-sealed"

#: What the main process logs while it waits to be let go, which it is when the container has all that it needs.
WAITING = '"event": "waiting"'

#: Seconds for that. A task that Swarm has placed anew by itself may wait for nobody.
_LONGEST_WAIT = 600

# `read` of POSIX has no limit, so another process reads, and this one waits for a `sleep` that is ended by it. Neither
# is left when the agent begins. Where nobody has come, the task is complete: the next command has Swarm make another.
_WAIT = f"""echo '{{{WAITING}}}' >&2; exec 3<&0; sleep {_LONGEST_WAIT} </dev/null >/dev/null 2>&1 3<&- & sleep=$!
(read -r go <&3; read=$?; kill $sleep; exit $read) >/dev/null 2>&1 & reader=$!; exec </dev/null 3<&-
if wait $sleep 2>/dev/null; then kill $reader; echo '{{"event": "not_let_go"}}' >&2; exit 0; fi
wait $reader || exit 1
[ -w "$HOME" ] && [ -w {STATE} ] || {{ echo "$HOME and {STATE} cannot be written to" >&2; exit 1; }}
"""

#: Bytes of output that an engine keeps, and of /tmp.
_LOG_SIZE, _TMP_SIZE = 30 * 1024**2, 512 * 1024**2

#: Seconds before Swarm starts a task in the place of one that has failed.
_DELAY = 1.0

_NANO = 10**9

#: Fields that stay on the machine that they were said on.
_NOT_TOLD = ("env", "key_command", "key_file", "service")

#: And of Claude Code's options what may have secrets in it.
_CLAUDE_NOT_TOLD = ("mcp_config", "extra")

#: Characters of a record in a label.
_LONGEST = 100_000

#: Characters of a service's name, which has no dot; and of what can be read of an instance's in it.
_LONGEST_NAME, _READABLE = 63, 32


class ServicePlan:
    """What the service of a record is like.

    Args:
        service: its name.
        like: the container that the record would have on one machine.
    """

    def __init__(self, record: ClaudeInstance, service: str, like: ContainerPlan) -> None:
        self.record = record
        self.service = service
        self._like = like

    def of(self, record: ClaudeInstance) -> ServicePlan:
        """That of another record, which says its service's name."""
        return ServicePlan(record, record.service, self._like.of(record, record.service))

    @property
    def labels(self) -> dict[str, str]:
        """By which the service, its containers and its volumes are found again."""
        return {**self._like.labels, f"{LABEL}.type": "service"}

    @property
    def owner(self) -> tuple[int, int]:
        """See ``ContainerPlan``."""
        return self._like.owner

    @property
    def has_network(self) -> bool:
        """It is left with one."""
        return not self.record.sealed and self.record.network != "none"

    @property
    def volumes(self) -> tuple[str, ...]:
        """Its own: its home, the agent's state, and its workspace where the record names none."""
        own = () if self.record.workspace or self.record.workspace_volume else (f"{self.service}-workspace",)
        return (*self._like.volumes, *own)

    @property
    def owned(self) -> tuple[str, ...]:
        """Where these are, in the container: its user is to have them, and the engine makes them root's."""
        return (CONTAINER_HOME, STATE, self.record.mount_at)[: len(self.volumes)]

    def spec(self, image: str, config: tuple[str, str], *, no_new_privileges: bool) -> dict[str, Any]:
        """What a manager is to make.

        Args:
            image: its name or id.
            config: id and name of the config that has the agent.
            no_new_privileges: the engines can be asked for this.
        """
        record = self.record
        return {
            "Name": self.service,
            "Labels": {**record.labels, **self.labels, RECORD: self.told},
            "TaskTemplate": {
                "ContainerSpec": self._container(image, config, no_new_privileges=no_new_privileges),
                "Resources": {
                    "Limits": {
                        "MemoryBytes": record.memory,
                        "NanoCPUs": int(record.cpus * _NANO),
                        "Pids": record.pids,
                    },
                    "Reservations": {
                        "MemoryBytes": record.reserve_memory,
                        "NanoCPUs": int(record.reserve_cpus * _NANO),
                    },
                },
                # An agent that ends in order, as after `stop_after`, is not started again before somebody needs it.
                "RestartPolicy": {"Condition": "on-failure", "Delay": int(_DELAY * _NANO), "MaxAttempts": 0},
                "Placement": {
                    "Constraints": list(record.constraints),
                    "Preferences": [{"Spread": {"SpreadDescriptor": what}} for what in record.spread],
                },
                "LogDriver": {
                    "Name": "json-file",
                    "Options": {"max-size": str(_LOG_SIZE // 3), "max-file": "3"},
                },
                "Networks": [{"Target": name} for name in self._networks],
            },
            "Mode": {"Replicated": {"Replicas": 0}},  # whoever has its lease scales it
            "UpdateConfig": {"Parallelism": 1, "Order": "stop-first"},  # two would write to the same volumes
        }

    @property
    def told(self) -> str:
        """The record for programs of other machines, which have users of their own."""
        told = {**self.record.as_json_types(), "user": self._like.user}
        told["claude"] = {name: value for name, value in told["claude"].items() if name not in _CLAUDE_NOT_TOLD}
        return json.dumps({name: value for name, value in told.items() if name not in _NOT_TOLD})

    def _container(self, image: str, config: tuple[str, str], *, no_new_privileges: bool) -> dict[str, Any]:
        record = self.record
        command = ["sh", "-c", _WAIT + MAIN, "sh", AGENT, "serve", "--state", STATE, "--grace", str(GRACE)]
        command += agent_words(record)
        # The user's variables stay out of here: whoever may ask a manager sees it. They go in with Claude Code's start.
        environment = {
            "HOME": CONTAINER_HOME,
            "TERM": "xterm-256color",
            **({"PROJECT_ID": record.project} if record.project else {}),
            **surroundings(record),
        }
        container: dict[str, Any] = {
            "Image": image,
            "Command": [*command, "--linger", str(LINGER)] if record.ephemeral else command,
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Dir": workdir(record),
            "User": self._like.user,
            # Containers inherit their image's labels: override ours, so that an image cannot set them.
            "Labels": {**dict.fromkeys(OWN_LABELS, ""), **record.labels, **self.labels},
            "Mounts": self._mounts(),
            "OpenStdin": True,
            "ReadOnly": not record.writable,
            "Init": True,
            "CapabilityDrop": ["ALL"],
            "Healthcheck": {"Test": ["NONE"]},  # the image's would hold up each start, and says nothing of the agent
            "StopGracePeriod": int((GRACE + 5) * _NANO),
            "Configs": [
                {
                    "ConfigID": config[0],
                    "ConfigName": config[1],
                    "File": {"Name": AGENT, "UID": "0", "GID": "0", "Mode": 0o444},
                }
            ],
        }
        if no_new_privileges:
            container["Privileges"] = {"NoNewPrivileges": True}
        if not self.has_network:
            container["DNSConfig"] = {"Nameservers": ["127.0.0.1"]}  # else the engine itself asks others for it
        return container

    @property
    def _networks(self) -> tuple[str, ...]:
        if not self.has_network:
            return (SEALED_NETWORK,)
        return () if self.record.network == "bridge" else (self.record.network,)

    def _mounts(self) -> list[dict[str, Any]]:
        record = self.record
        mounts = [self._volume(name, target) for name, target in zip(self.volumes, self.owned, strict=True)]
        if record.workspace is not None:
            mounts.append(_bind(str(record.workspace), record.mount_at, read_only=record.read_only_workspace))
        elif record.workspace_volume:
            mounts.append(self._volume(record.workspace_volume, record.mount_at, read_only=record.read_only_workspace))
        for source, target, read_only in map(split_mount, record.mounts):
            mounts.append(_bind(source, target, read_only=read_only))
        tmpfs = {"SizeBytes": _TMP_SIZE, "Mode": 0o1777}
        return [*mounts, {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": tmpfs}]

    def _volume(self, name: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
        record, options = self.record, {}
        if record.volume_driver:
            said = {key: value.replace("{volume}", name) for key, value in record.volume_options.items()}
            options = {"DriverConfig": {"Name": record.volume_driver, "Options": said}}
        own = {"Labels": self.labels} if name in self.volumes else {}
        volume = {"Type": "volume", "Source": name, "Target": target, "ReadOnly": read_only}
        return {**volume, "VolumeOptions": {**own, **options}}


def service_name(instance: str, install: str) -> str:
    """The name of an instance's service: a label of DNS's, as Swarm wants it. The labels have the whole name."""
    name = f"cc-bridge-{instance}-{install}"
    if "." not in instance and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(instance.encode()).hexdigest()[:10]
    return f"cc-bridge-{instance.replace('.', '-')[:_READABLE]}-{digest}-{install}"


def record_in(labels: Mapping[str, str], service: str, env: Mapping[str, str]) -> ClaudeInstance:
    """The record that a service's labels have, for a program of any machine.

    Args:
        env: of Claude Code's: the labels have none.

    Raises:
        InvalidInput: they have no record that can be read.
    """
    try:
        data = json.loads(labels.get(RECORD, "")[:_LONGEST])
        return ClaudeInstance.from_kept({**data, "env": dict(env), "service": service})
    except (ValueError, TypeError, RecursionError) as error:
        what = f"the service {service} has no record that can be read"
        raise InvalidInput(what, hint="Another version of cc-bridge may have made it.") from error


def _bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
