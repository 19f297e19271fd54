"""A real Prometheus, set up as docs/operations.md says, scrapes the real server."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.processes import free_port, until
from tests.support.server import Serve, Server, chat

ROOT = Path(__file__).resolve().parents[2]
KEY = "key-of-prometheus"


def blocks() -> dict[str, Any]:
    """Return the YAML of docs/operations.md: the scrape configuration and the alerts."""
    text = (ROOT / "docs" / "operations.md").read_text()
    found: dict[str, Any] = {}
    for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL):
        found |= yaml.safe_load(block)
    return found


def dashboard_queries() -> list[str]:
    """Return the queries of the panels, with Grafana's variables filled in."""

    def expressions(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            if "expr" in part:
                yield part["expr"]
            for inner in part.values():
                yield from expressions(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from expressions(inner)

    found = expressions(json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text()))
    values = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*"}
    return [re.sub(r"\$\w+", lambda variable: values[variable.group()], query) for query in found]


@pytest.fixture
def server(serve: Serve) -> Server:
    server = serve(api_keys=KEY)
    headers = {"Authorization": f"Bearer {KEY}"}
    assert server.http.post("/v1/chat/completions", json=chat("Hello"), headers=headers).status_code == 200
    return server


def test_promtool_finds_nothing_wrong_with_the_metrics(server: Server, promtool: str) -> None:
    metrics = server.http.get("/metrics", headers={"X-Api-Key": KEY}).content
    assert b"glm_request_success_total" in metrics
    result = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_prometheus_answers_the_queries_of_dashboard_and_alerts(
    server: Server, prometheus: str, promtool: str, tmp_path: Path
) -> None:
    told = blocks()
    [job] = told["scrape_configs"]
    job["authorization"]["credentials_file"] = str(tmp_path / "key")
    job["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
    job["scrape_interval"] = "1s"
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump({"groups": told["groups"]}))
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"scrape_configs": [job], "rule_files": ["alerts.yml"]}))
    subprocess.run([promtool, "check", "config", str(config)], check=True, capture_output=True)
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                prometheus,
                f"--config.file={config}",
                f"--web.listen-address={address}",
                f"--storage.tsdb.path={tmp_path}/data",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://{address}") as client:

            def ask(query: str) -> list[dict[str, Any]]:
                answer = client.get("/api/v1/query", params={"query": query}).json()
                assert answer["status"] == "success", (query, answer)
                result: list[dict[str, Any]] = answer["data"]["result"]
                return result

            def collected() -> bool:
                try:
                    # Prometheus answers 503 until it has opened its data.
                    return client.get("/-/ready").is_success and bool(ask('up{job="glm-api"} == 1'))
                except httpx.TransportError:
                    return False

            until(collected)
            assert [sample["value"][1] for sample in ask("sum(glm_request_success_total)")] == ["1"]
            for group in told["groups"]:
                for rule in group["rules"]:
                    assert ask(rule["expr"]) == [], rule["alert"]
            queries = dashboard_queries()
            assert [sample["value"][1] for sample in ask(queries[0])] == ["0"]
            for query in queries:
                ask(query)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
