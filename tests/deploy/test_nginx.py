"""``deploy/nginx.conf`` in a real nginx: streams, limits, and failover that runs no request twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.deploy.conftest import MakeProxy, MakeReplica, free_port


def post(proxy: httpx.Client, path: str = "/v1/x", **more: object) -> httpx.Response:
    return proxy.post(path, json={"messages": []}, **more)  # type: ignore[arg-type]


def test_a_stream_passes_piece_by_piece(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    replica = make_replica("a")
    with make_proxy(replica.address).stream("POST", "/stream", json={}) as response:
        pieces = response.iter_raw()
        # The second piece is not sent before the first has come through.
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


def test_the_request_id_goes_through_and_is_made_when_missing(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    replica = make_replica("a")
    proxy = make_proxy(replica.address)
    post(proxy, headers={"x-request-id": "abc-1"})
    post(proxy)
    assert replica.seen[0] == "abc-1"
    assert len(replica.seen[1]) == 32


def test_too_many_requests_of_one_address_are_refused(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    proxy = make_proxy(make_replica("a").address)
    assert [post(proxy).status_code for _ in range(20)] == [200] * 20
    with ThreadPoolExecutor(10) as pool:
        assert 429 in pool.map(lambda _: post(proxy).status_code, range(100))


def test_a_replica_that_refuses_loses_nothing(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    draining, ready = make_replica("draining", status=503), make_replica("ready")
    proxy = make_proxy(draining.address, ready.address)
    assert [post(proxy).text for _ in range(8)] == ["ready"] * 8
    assert len(set(ready.seen)) == len(ready.seen) == 8
    assert draining.seen, "it was asked, and said no"


def test_a_replica_that_is_gone_loses_nothing(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    ready = make_replica("ready")
    proxy = make_proxy(f"127.0.0.1:{free_port()}", ready.address)
    assert [post(proxy).text for _ in range(8)] == ["ready"] * 8
    assert len(ready.seen) == 8


def test_a_request_that_was_lost_under_way_is_not_run_again(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    dying, other = make_replica("dying", dies=True), make_replica("other")
    proxy = make_proxy(dying.address, other.address)
    responses = [post(proxy) for _ in range(4)]
    lost = [response for response in responses if response.status_code == 502]
    assert len(lost) == len(dying.seen) > 0
    assert lost[0].json()["error"]["type"] == "server_error"
    assert not set(dying.seen) & set(other.seen)


def test_when_all_replicas_refuse_the_client_hears_it(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    replicas = [make_replica(name, status=503) for name in "ab"]
    response = post(make_proxy(*(replica.address for replica in replicas)))
    assert response.status_code == 503
    assert response.json() == {"error": "no"}


def test_a_full_queue_is_told_as_the_server_tells_it(make_replica: MakeReplica, make_proxy: MakeProxy) -> None:
    response = post(make_proxy(make_replica("a", status=429).address))
    assert (response.status_code, response.json()) == (429, {"error": "no"})


@pytest.mark.parametrize("path", ["/metrics", "/slots"])
def test_operators_on_the_machine_see_what_others_do_not(
    make_replica: MakeReplica, make_proxy: MakeProxy, path: str
) -> None:
    proxy = make_proxy(make_replica("a").address)
    assert proxy.get(path, headers={"Content-Length": "0"}).text == "a"
