"""``deploy/nginx.conf`` in a real nginx: streams, limits, and failover that runs no request twice."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.support.nginx import MAIN, ROOT, MakeProxy, MakeReplica
from tests.support.processes import free_port


def post(proxy: httpx.Client, path: str = "/v1/x", **more: object) -> httpx.Response:
    return proxy.post(path, json={"messages": []}, **more)  # type: ignore[arg-type]


def test_a_stream_passes_piece_by_piece(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    replica = make_replica("a")
    with make_proxy(replica.address).stream("POST", "/stream", json={}) as response:
        pieces = response.iter_raw()
        # The replica sends the second piece only after the first one has arrived here.
        assert next(pieces) == b"data: 1\n\n"
        replica.proceed.set()
        assert b"".join(pieces) == b"data: [DONE]\n\n"


def test_a_client_that_leaves_is_noticed(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    replica = make_replica("a")
    with make_proxy(replica.address).stream("POST", "/stream", json={}) as response:
        next(response.iter_raw())
    assert replica.client_left.wait(30)


def test_a_large_body_is_refused_in_the_envelope(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    replica = make_replica("a")
    response = make_proxy(replica.address).post("/v1/x", content=b"x" * (9 * 2**20))
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert replica.seen == []


def test_the_request_id_is_passed_on_or_made(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    replica = make_replica("a")
    proxy = make_proxy(replica.address)
    post(proxy, headers={"x-request-id": "abc-1"})
    post(proxy)
    # The server would replace this id by its own, and the two logs could not be joined.
    post(proxy, headers={"x-request-id": "a b"})
    assert replica.seen[0] == "abc-1"
    assert [len(id) for id in replica.seen[1:]] == [32, 32]


def test_too_many_requests_of_one_address_are_refused(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    proxy = make_proxy(make_replica("a").address)
    assert [post(proxy).status_code for _ in range(20)] == [200] * 20
    with ThreadPoolExecutor(10) as pool:
        refused = [response for response in pool.map(lambda _: post(proxy), range(100)) if response.status_code == 429]
    assert refused[0].json()["error"]["type"] == "rate_limit_error"
    assert int(refused[0].headers["Retry-After"]) > 0
    assert len(refused[0].headers["X-Request-Id"]) == 32


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_requests_that_cost_the_model_nothing_are_not_limited(
    make_replica: MakeReplica, make_proxy: MakeProxy, method: str
) -> None:
    proxy = make_proxy(make_replica("a").address)
    with ThreadPoolExecutor(10) as pool:
        responses = pool.map(lambda _: proxy.request(method, "/", headers={"Content-Length": "0"}), range(100))
    assert {response.status_code for response in responses} == {200}


def test_no_request_is_lost_when_a_replica_refuses(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    draining, ready = make_replica("draining", status=503), make_replica("ready")
    proxy = make_proxy(draining.address, ready.address)
    assert [post(proxy).text for _ in range(8)] == ["ready"] * 8
    assert len(set(ready.seen)) == len(ready.seen) == 8
    assert draining.seen, "it was asked, and said no"


def test_no_request_is_lost_when_a_replica_is_gone(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    ready = make_replica("ready")
    proxy = make_proxy(f"127.0.0.1:{free_port()}", ready.address)
    assert [post(proxy).text for _ in range(8)] == ["ready"] * 8
    assert len(ready.seen) == 8


def test_no_request_is_lost_when_a_replica_refuses_and_then_is_gone(
    make_replica: MakeReplica, make_proxy: MakeProxy
) -> None:
    leaving, ready = make_replica("leaving", status=503, leaves=True), make_replica("ready")
    proxy = make_proxy(leaving.address, ready.address)
    assert [post(proxy).text for _ in range(8)] == ["ready"] * 8
    assert len(leaving.seen) == 1, "it was asked, and said no"
    assert len(ready.seen) == 8


def test_a_busy_replica_gets_the_requests_of_a_loading_and_a_dead_one(
    make_replica: MakeReplica, make_proxy: MakeProxy
) -> None:
    loading, busy = make_replica("loading", status=503), make_replica("busy")
    gone = f"127.0.0.1:{free_port()}"
    # The other replicas have fewer requests, so nginx tries them first.
    proxy = make_proxy(busy.address, gone, loading.address)
    with proxy.stream("POST", "/stream", json={}) as response:
        pieces = response.iter_raw()
        next(pieces)
        assert [post(proxy).text for _ in range(8)] == ["busy"] * 8
        busy.proceed.set()
        assert b"".join(pieces) == b"data: [DONE]\n\n"
    assert len(set(busy.seen)) == len(busy.seen) == 9


def test_a_request_is_not_sent_again_after_its_replica_died(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    dying, other = make_replica("dying", dies=True), make_replica("other")
    proxy = make_proxy(dying.address, other.address)
    responses = [post(proxy) for _ in range(4)]
    lost = [response for response in responses if response.status_code == 502]
    assert len(lost) == len(dying.seen) > 0
    assert lost[0].json()["error"]["type"] == "server_error"
    assert "Retry-After" in lost[0].headers
    assert [response.headers["X-Request-Id"] for response in lost] == dying.seen
    assert not set(dying.seen) & set(other.seen)


def test_a_request_is_not_sent_again_after_refusals_and_a_dead_replica(
    make_replica: MakeReplica, make_proxy: MakeProxy
) -> None:
    replicas = [make_replica("refusing", status=503), *(make_replica(name, dies=True) for name in "ab")]
    proxy = make_proxy(f"127.0.0.1:{free_port()}", *(replica.address for replica in replicas))
    assert [post(proxy).status_code for _ in range(6)] == [502] * 6
    lost = replicas[1].seen + replicas[2].seen
    assert len(set(lost)) == len(lost) == 6


def test_a_replica_that_is_back_is_used_at_once(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    ports = [free_port() for _ in range(2)]
    proxy = make_proxy(*(f"127.0.0.1:{port}" for port in ports))
    assert [post(proxy).status_code for _ in range(4)] == [503] * 4
    first = make_replica("first", ports[0])
    assert [post(proxy).text for _ in range(4)] == ["first"] * 4
    # As in a rolling restart, the first replica stops as soon as the second one is back.
    second = make_replica("second", ports[1])
    first.status, first.leaves = 503, True
    assert [post(proxy).text for _ in range(8)] == ["second"] * 8
    assert len(second.seen) == len(set(second.seen)) == 8


def test_the_client_gets_the_refusal_when_all_replicas_refuse(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    replicas = [make_replica(name, status=503) for name in "ab"]
    response = post(make_proxy(*(replica.address for replica in replicas)))
    assert response.status_code == 503
    assert response.json() == {"error": "no"}


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "unix:{folder}/{port}.sock"])
def test_the_client_gets_retry_after_when_all_replicas_are_gone(
    make_proxy: MakeProxy, tmp_path: Path, address: str, replicas: int
) -> None:
    proxy = make_proxy(*(address.format(folder=tmp_path, port=free_port()) for _ in range(replicas)))
    response = post(proxy, headers={"x-request-id": "abc-1"})
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "unavailable_error"
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["X-Request-Id"] == "abc-1"


@pytest.mark.parametrize("status", [400, 413, 500, 502, 503, 504])
def test_errors_of_a_server_pass_unchanged(make_replica: MakeReplica, make_proxy: MakeProxy, status: int) -> None:
    replica, other = make_replica("a", status=status), make_replica("b", status=status)
    response = post(make_proxy(replica.address, other.address), headers={"x-request-id": "abc-1"})
    assert (response.status_code, response.json()) == (status, {"error": "no"})
    assert response.headers["X-Request-Id"] == "abc-1"
    assert len(replica.seen + other.seen) == (2 if status == 503 else 1)


def test_the_refusal_of_a_full_queue_passes_unchanged(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    response = post(make_proxy(make_replica("a", status=429).address))
    assert (response.status_code, response.json()) == (429, {"error": "no"})


@pytest.mark.parametrize("path", ["/metrics", "/slots", "/queue"])
def test_operators_on_this_machine_may_read_metrics_and_slots(
    make_replica: MakeReplica, make_proxy: MakeProxy, path: str
) -> None:
    proxy = make_proxy(make_replica("a").address)
    assert proxy.get(path, headers={"Content-Length": "0"}).text == "a"


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/slots", "/props", "/queue", "/metrics/", "/props/", "/queue/"),
        *("//slots", "/slots/", "//slots//", "/%73lots", "/slots%2F", "/slots/%2f/"),
        *("/slots?x=1", "/slots/?x=1", "/./slots/", "/v1/../slots", "/v1/%2e%2e/slots/", "/slots/.", "/slots//x/.."),
    ],
)
def test_nobody_else_may_read_them_under_any_spelling(
    make_replica: MakeReplica, make_proxy: MakeProxy, certificate: Path, path: str
) -> None:
    url = make_proxy(make_replica("a").address, operator="192.0.2.1").base_url
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    # httpx would spell the path in its own way.
    with closing(http.client.HTTPSConnection(url.host, url.port, context=context)) as connection:
        connection.request("GET", path)
        assert connection.getresponse().status == 403


def test_the_log_tells_which_replicas_were_asked(
    make_replica: MakeReplica, make_proxy: MakeProxy, tmp_path: Path
) -> None:
    gone, ready = f"127.0.0.1:{free_port()}", make_replica("ready")
    proxy = make_proxy(gone, ready.address)
    post(proxy, "/v1/x?secret=1", headers={"x-request-id": "abc-1"})
    # nginx writes the line after the answer, before it reads the next request of the connection.
    post(proxy)
    entry = json.loads((tmp_path / "glm.log").read_text().splitlines()[0])
    assert (entry["request_id"], entry["client"], entry["status"]) == ("abc-1", "127.0.0.1", 200)
    assert (entry["request"], entry["upstream_status"]) == ("POST /v1/x", "503, 200")
    assert len(entry["upstream"].split(", ")) == len(entry["upstream_seconds"].split(", ")) == 2
    assert entry["seconds"] >= 0


def test_a_remote_prometheus_sees_only_the_metrics_of_each_replica(
    make_replica: MakeReplica, make_proxy: MakeProxy, tmp_path: Path
) -> None:
    names = ["a", "b"]
    make_proxy(*(make_replica(name).address for name in names))
    [site] = tmp_path.glob("nginx-*/site.conf")
    ports = re.findall(r"listen 127.0.0.1:(\d+); location = /metrics", site.read_text())
    for name, port in zip(names, ports, strict=True):
        empty = {"Content-Length": "0"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as prometheus:
            assert [prometheus.get("/metrics", headers=empty).text for _ in range(3)] == [name] * 3
            assert prometheus.get("/slots", headers=empty).status_code == post(prometheus).status_code == 404


def test_the_commented_lines_for_more_replicas_are_valid(certificate: Path, nginx: str, tmp_path: Path) -> None:
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    site, count = re.subn(r"(?m)^( *)# (?=upstream |server |listen )", r"\1", site)
    assert count == 5
    for ours, theirs in {
        "10.0.0.1:": "127.0.0.2:",
        "listen 443": f"listen {free_port()}",
        "/etc/ssl/certs/glm.example.org.pem": str(certificate / "cert.pem"),
        "/etc/ssl/private/glm.example.org.key": str(certificate / "key.pem"),
        "/var/log/nginx/glm.log": str(tmp_path / "glm.log"),
    }.items():
        site = site.replace(ours, theirs)
    (tmp_path / "site.conf").write_text(re.sub(r"\b91(?=0[12]\b)", "391", site))
    (tmp_path / "nginx.conf").write_text(MAIN.format(folder=tmp_path))
    subprocess.run([nginx, "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"], check=True)
