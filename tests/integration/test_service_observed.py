"""Metrics and traces of a service that runs, as Prometheus and a collector get them. covers: B12"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("opentelemetry.sdk")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from cc_bridge.cli.serve import _Wanted
from cc_bridge.errors import InvalidInput
from cc_bridge.testing import ScriptedModel
from tests.receiver import receiver
from tests.served import Served, events, made

pytestmark = pytest.mark.anyio

PROJECT = Path(__file__).parents[2]
SECRET = "swordfish"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def anyio_backend() -> str:
    """uvicorn's and the database drivers'."""
    return "asyncio"


@pytest.fixture
async def served(tmp_path: Path, scripted_model: ScriptedModel, claude: str) -> AsyncIterator[Served]:
    config = tmp_path / "cc-bridge.toml"
    config.write_text('[service]\nmetrics = true\nmetrics_by_project = true\n[defaults]\nproject = "shop"\n')
    env = {**scripted_model.claude_env(tmp_path / "home"), "CC_BRIDGE_CONFIG": str(config)}
    (tmp_path / "home").mkdir()
    service = Served(tmp_path / "state", env)
    try:
        yield service
    finally:
        with anyio.CancelScope(shield=True):
            await service.clean()


async def ask(client: httpx.AsyncClient, prompt: str, **headers: str) -> None:
    given = {"Prefer": "wait=60", **headers}
    response = await client.post("/v1/instances/desk/commands", json={"prompt": prompt}, headers=given)
    assert response.json()["result"]["ok"], response.text


async def scraped(client: httpx.AsyncClient) -> dict[str, float]:
    """Each sample, with its labels as Prometheus writes them."""
    response = await client.get("/metrics")
    assert response.status_code == 200, response.text
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_what_was_done_is_counted_and_timed(served: Served) -> None:
    served.start()
    async with served.client() as client:
        await made(client, "desk")
        await ask(client, f"[[say {SECRET}]]")
        await ask(client, "[[say two]]")
        async with client.stream("GET", "/v1/instances/desk/events"):
            found = await scraped(client)
        body = (await client.get("/metrics")).text
    assert found['cc_bridge_commands_total{project="shop",verdict="completed"}'] == 2
    for name in ("queue_wait", "first_token", "answer"):
        assert found[f"cc_bridge_{name}_seconds_count"] == 2, name
    assert found['cc_bridge_tokens_total{kind="output",project="shop"}'] > 0
    assert found["cc_bridge_streams"] == 1
    assert found['cc_bridge_instances{state="idle"}'] == 1
    assert (found["cc_bridge_awake"], found["cc_bridge_ready"], found["cc_bridge_commands_open"]) == (1, 1, 0)
    posted = 'cc_bridge_http_requests_total{method="POST",route="/v1/instances/{name}/commands",status="200"}'
    assert found[posted] == 2
    assert '"desk"' not in body, "names of instances are no labels"
    assert SECRET not in body


async def test_the_dashboard_and_the_docs_have_the_metrics_that_there_are(served: Served) -> None:
    served.start()
    async with served.client() as client:
        families = list(text_string_to_metric_families((await client.get("/metrics")).text))
    there = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    there = {name for name in there if name.startswith("cc_bridge_") and not name.endswith("_created")}
    asked = re.findall(r"cc_bridge_\w+", (PROJECT / "docker" / "grafana-dashboard.json").read_text())
    page = (PROJECT / "docs" / "how-to" / "run-the-service.md").read_text()
    assert {name.removesuffix("_bucket") for name in asked} <= there
    assert set(re.findall(r"`(cc_bridge_\w+)`", page)) == there


async def test_metrics_are_for_who_sees_everything(served: Served) -> None:
    served.start()
    async with served.client() as client, served.client("") as stranger:
        assert (await stranger.get("/metrics")).status_code == 401
        made_token = await client.post("/v1/tokens", json={"name": "a", "scopes": ["read"], "instances": ["desk"]})
        async with served.client(made_token.json()["secret"]) as limited:
            assert (await limited.get("/metrics")).status_code == 403
        everything = await client.post("/v1/tokens", json={"name": "prometheus", "scopes": ["read"]})
        async with served.client(everything.json()["secret"]) as prometheus:
            assert await scraped(prometheus)


async def test_a_request_is_followed_through_the_queue_and_the_turn_to_its_tools(served: Served) -> None:
    async with receiver() as collector:
        served.start("--traces-to", f"http://127.0.0.1:{collector.port}/v1/traces", "--no-metrics")
        async with served.client() as client:
            await made(client, "desk")
            prompt = f'[[tool Bash {{"command": "echo hidden-in-a-tool"}}]] [[say {SECRET}]]'
            await ask(client, prompt, traceparent=f"00-{TRACE}-{PARENT}-01")
            assert (await client.get("/metrics")).status_code == 404
        assert await anyio.to_thread.run_sync(served.stop) == 0  # the collector answers meanwhile
    sent = [request.body for request in collector.requests]
    spans = spans_in(sent)
    assert all(span.trace_id.hex() == TRACE for span in spans.values())
    below = {name: span.parent_span_id for name, span in spans.items()}
    request = spans["POST /v1/instances/{name}/commands"]
    assert request.parent_span_id.hex() == PARENT
    assert below["command"] == request.span_id
    assert below["queue"] == below["turn"] == spans["command"].span_id
    assert below["tool Bash"] == spans["turn"].span_id
    assert [event.name for event in spans["turn"].events] == ["first token"]
    assert spans["queue"].end_time_unix_nano <= spans["turn"].end_time_unix_nano
    assert not [body for body in sent if SECRET.encode() in body or b"hidden-in" in body], "no contents"


def spans_in(bodies: list[bytes]) -> dict[str, Span]:
    """Those of the trace, by their names."""
    found = {}
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                found.update({span.name: span for span in scope.spans if span.trace_id.hex() == TRACE})
    return found


async def test_a_collector_that_is_away_costs_no_answer(served: Served) -> None:
    served.start("--traces-to", "http://127.0.0.1:1/v1/traces")
    async with served.client() as client:
        await made(client, "desk")
        await ask(client, "[[say one]]")
    assert served.stop() == 0


async def test_after_a_restart_what_goes_on_is_counted_and_not_timed(served: Served) -> None:
    served.start()
    async with served.client() as client:
        await made(client, "desk")
        sent = await client.post("/v1/instances/desk/commands", json={"prompt": "[[delay 1]] [[say late]]"})
        served.kill()
        served.start()
        async with client.stream("GET", f"/v1/instances/desk/turns/{sent.json()['id']}/events") as response:
            kinds = [kind async for _, kind, _ in events(response)]
        assert kinds[-1] == "turn_result"
        found = await scraped(client)
    assert found['cc_bridge_commands_total{project="shop",verdict="completed"}'] == 1
    assert found["cc_bridge_answer_seconds_count"] == 0


def test_nothing_of_it_is_loaded_where_nobody_wants_it() -> None:
    code = "import json, sys, cc_bridge.service.server, cc_bridge.cli.serve; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"prometheus_client", "opentelemetry.sdk"}, "FastAPI itself loads opentelemetry's API"


@pytest.mark.parametrize(
    ("wanted", "module", "extra"),
    [
        (_Wanted(metrics=True), "prometheus_client", "metrics"),
        (_Wanted(traces_to="http://localhost:4318/v1/traces"), "opentelemetry", "otel"),
    ],
)
def test_a_library_that_lacks_is_named_with_the_extra_that_brings_it(
    wanted: _Wanted, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [
        name for name in sys.modules if name.partition(".")[0] == module or name.endswith((".metrics", ".tracing"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidInput) as caught:
        wanted.observers(by_project=False)
    assert caught.value.hint == f"pip install 'cc-bridge[{extra}]' brings it."
