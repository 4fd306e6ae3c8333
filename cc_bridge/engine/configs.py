"""Configs of a swarm: small files that its nodes get with a task."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from ..errors import ContainerNotFound, EngineError, SwarmConflict
from .client import Engine
from .labels import label_filter
from .swarm import TRIES, asked

__all__ = ["Configs"]


class Configs:
    """The configs of a swarm. Arguments and errors as of :class:`Services`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ensure(self, name: str, data: bytes, labels: Mapping[str, str]) -> str:
        """Its id; it is made where there is none of the name. One that is there is not compared: name it by its digest.

        Args:
            data: at most 500 kB.
        """
        client = await self._engine.client()
        for _ in range(TRIES):
            found = await asked(self._engine, client.api.configs, filters={"name": name}, repeat=True)
            for raw in found:
                if raw["Spec"]["Name"] == name:
                    return str(raw["ID"])

            def post() -> str:
                api = client.api
                body = {"Name": name, "Data": base64.b64encode(data).decode(), "Labels": dict(labels)}
                return str(api._result(api._post_json(api._url("/configs/create"), data=body), json=True)["ID"])

            try:
                return str(await asked(self._engine, post, shown=["config", "create", name]))
            except EngineError as error:
                if "already exists" not in error.what and "AlreadyExists" not in error.what:
                    raise
        raise SwarmConflict(f"the config {name} comes and goes")

    async def labelled(self, labels: Mapping[str, str]) -> list[str]:
        """The names of those with all these labels; an empty value matches any."""
        client = await self._engine.client()
        filters = {"label": label_filter(labels)}
        found = await asked(self._engine, client.api.configs, filters=filters, repeat=True)
        return sorted(str(raw["Spec"]["Name"]) for raw in found)

    async def remove_unused(self, name: str) -> bool:
        """Remove it unless a service uses it; True if it is gone."""
        client = await self._engine.client()
        try:
            await asked(self._engine, client.api.remove_config, name, shown=["config", "rm", name])
        except ContainerNotFound:
            return True
        except EngineError as error:
            if "is in use" not in error.what:
                raise
            return False
        return True
