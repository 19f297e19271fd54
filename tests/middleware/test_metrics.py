"""``/metrics``: a request is counted when it is over, a stream at its end; clients cannot create labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from config import Settings
from glm_api import __version__, create_app
from glm_api.backend.base import QueueDepth
from glm_api.backend.errors import ClientGone, EngineError, ModelLoading, QueueFull
from tests.support.fake_pipeline import FakePipeline, text

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hi"}]}
# The stems of vLLM's names, on which its dashboards are built.
NAMES = {
    "glm_num_requests_running",
    "glm_num_requests_waiting",
    "glm_prompt_tokens",
    "glm_generation_tokens",
    "glm_cached_prompt_tokens",
    "glm_request_success",
    "glm_time_to_first_token_seconds",
    "glm_inter_token_latency_seconds",
    "glm_e2e_request_latency_seconds",
    "glm_request_queue_time_seconds",
    "glm_request_prefill_time_seconds",
    "glm_request_decode_time_seconds",
    "glm_queue_rejected",
    "glm_client_disconnects",
    "glm_pipeline_restarts",
    "glm_http_requests",
    "glm_ready",
    "glm_build_info",
    "glm_log_lines_dropped",
}

Value = Callable[..., float]


@pytest.fixture
def fake() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def app(fake: FakePipeline) -> Flask:
    return create_app(Settings(), fake)


@pytest.fixture
def value(app: Flask) -> Value:
    """The value of a sample as Prometheus would read it; 0 when there is none."""

    def read(name: str, **labels: str) -> float:
        exposition = app.test_client().get("/metrics").get_data(as_text=True)
        return next(
            (
                sample.value
                for family in text_string_to_metric_families(exposition)
                for sample in family.samples
                if sample.name == name and sample.labels == labels
            ),
            0.0,
        )

    return read


def post(app: Flask, **parameters: object) -> None:
    app.test_client().post(CHAT, json={**BODY, **parameters}, buffered=True)


def test_all_metrics_exist_before_the_first_request(app: Flask) -> None:
    response = app.test_client().get("/metrics")
    families = {family.name for family in text_string_to_metric_families(response.get_data(as_text=True))}
    assert families >= NAMES
    assert response.content_type.startswith("text/plain")


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_is_counted(app: Flask, fake: FakePipeline, value: Value, stream: bool) -> None:
    post(app, stream=stream)
    prompt_tokens = len(fake.jobs[0].prompts[0])
    assert value("glm_prompt_tokens_total") == prompt_tokens
    assert value("glm_cached_prompt_tokens_total") == 3
    assert value("glm_generation_tokens_total") == 5
    assert value("glm_request_success_total", finished_reason="stop") == 1
    assert value("glm_http_requests_total", route=CHAT, method="POST", status="200") == 1
    assert value("glm_time_to_first_token_seconds_count") == 1
    assert value("glm_e2e_request_latency_seconds_count") == 1
    assert value("glm_request_queue_time_seconds_sum") == pytest.approx(0.0015)
    assert value("glm_request_prefill_time_seconds_sum") == pytest.approx(0.02)
    assert value("glm_request_decode_time_seconds_sum") == pytest.approx(0.1)
    assert value("glm_inter_token_latency_seconds_sum") == pytest.approx(0.1 / 4)


def test_each_choice_is_counted(app: Flask, value: Value) -> None:
    post(app, n=3)
    assert value("glm_request_success_total", finished_reason="stop") == 3
    assert value("glm_generation_tokens_total") == 15
    assert value("glm_e2e_request_latency_seconds_count") == 1


def test_a_stream_is_counted_at_its_end(app: Flask, value: Value) -> None:
    response = app.test_client().post(CHAT, json={**BODY, "stream": True})
    chunks = response.iter_encoded()
    next(chunks)
    assert value("glm_generation_tokens_total") == 0
    list(chunks)
    response.close()
    assert value("glm_generation_tokens_total") == 5


@pytest.mark.parametrize(("code", "error"), [("queue_full", QueueFull), ("model_loading", ModelLoading)])
def test_refused_requests_are_counted_by_reason(
    app: Flask, fake: FakePipeline, value: Value, code: str, error: type
) -> None:
    fake.refusal = error("no", retry_after=1)
    post(app)
    assert value("glm_queue_rejected_total", reason=code) == 1
    assert value("glm_e2e_request_latency_seconds_count") == 0


def test_a_probe_is_not_counted_as_refused_while_the_model_loads(app: Flask, fake: FakePipeline, value: Value) -> None:
    fake.state = "loading"
    assert app.test_client().get("/health", buffered=True).status_code == 503
    assert value("glm_queue_rejected_total", reason="model_loading") == 0


@pytest.mark.parametrize(
    ("script", "phase"), [([ClientGone("gone")], "queued"), ([*text("Hel"), ClientGone("gone")], "decode")]
)
@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_leave_are_counted_by_phase(
    app: Flask, fake: FakePipeline, value: Value, script: list[object], phase: str, stream: bool
) -> None:
    fake.scripts = [script]  # type: ignore[list-item]
    post(app, stream=stream)
    assert value("glm_client_disconnects_total", phase=phase) == 1
    assert value("glm_http_requests_total", route=CHAT, method="POST", status="499") == 1
    assert value("glm_request_success_total", finished_reason="stop") == 0


def test_a_failed_answer_is_not_a_success(app: Flask, fake: FakePipeline, value: Value) -> None:
    fake.scripts = [[*text("Hel"), EngineError("died")]]
    post(app)
    assert value("glm_request_success_total", finished_reason="stop") == 0
    assert value("glm_http_requests_total", route=CHAT, method="POST", status="500") == 1


def test_running_and_waiting_requests_are_shown(
    fake: FakePipeline, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "queue_depth", lambda: QueueDepth(running=1, waiting=2))
    assert value("glm_num_requests_running") == 1
    assert value("glm_num_requests_waiting") == 2


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        (Settings(), "chatglm-cpp"),
        (Settings(gguf=Path("model.gguf")), "llama-cpp"),
        (Settings(backend="openai", upstream_url="http://127.0.0.1:9/v1"), "openai"),
    ],
)
def test_version_and_engine_are_shown(settings: Settings, engine: str, fake: FakePipeline) -> None:
    exposition = create_app(settings, fake).test_client().get("/metrics").get_data(as_text=True)
    assert f'glm_build_info{{backend="{engine}",version="{__version__}"}} 1.0' in exposition.splitlines()


def test_readiness_is_shown(fake: FakePipeline, value: Value) -> None:
    assert value("glm_ready") == 1
    fake.state = "failed"
    assert value("glm_ready") == 0


def test_counters_start_at_0(app: Flask) -> None:
    exposition = app.test_client().get("/metrics").get_data(as_text=True)
    for sample in (
        'glm_pipeline_restarts_total{cause="died",process="pipeline"} 0.0',
        'glm_pipeline_restarts_total{cause="hung",process="tokenizer"} 0.0',
        'glm_queue_rejected_total{reason="queue_full"} 0.0',
        'glm_client_disconnects_total{phase="prefill"} 0.0',
    ):
        assert sample in exposition.splitlines()


def test_restarts_are_counted_by_process_and_cause(fake: FakePipeline, value: Value) -> None:
    fake.restarts["pipeline", "died"] += 2
    fake.restarts["tokenizer", "hung"] += 1
    assert value("glm_pipeline_restarts_total", process="pipeline", cause="died") == 2
    assert value("glm_pipeline_restarts_total", process="tokenizer", cause="hung") == 1


def test_clients_cannot_create_labels(app: Flask, value: Value) -> None:
    client = app.test_client()
    for path in ("/a", "/b", "/v1/models/c", "/v1/models/d"):
        client.get(path, buffered=True)
    client.open("/livez", method="BREW", buffered=True)
    assert value("glm_http_requests_total", route="unknown", method="GET", status="404") == 2
    assert value("glm_http_requests_total", route="/v1/models/<path:id>", method="GET", status="404") == 2
    assert value("glm_http_requests_total", route="unknown", method="other", status="405") == 1


def test_openmetrics_is_returned_if_requested(app: Flask) -> None:
    response = app.test_client().get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.content_type.startswith("application/openmetrics-text")
    assert response.get_data(as_text=True).endswith("# EOF\n")


@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
@pytest.mark.parametrize("version", ["x", "1.x", "."])
def test_a_version_that_is_no_number_gets_the_plain_text(app: Flask, kind: str, version: str) -> None:
    response = app.test_client().get("/metrics", headers={"Accept": f"{kind}; version={version}"})
    assert (response.status_code, response.mimetype) == (200, "text/plain")
