"""The stores of responses: what they keep, for whom, and for how long."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from glm_api.responses import store as store_module
from glm_api.responses.sqlite_store import SqliteStore
from glm_api.responses.store import OVERHEAD, Limits, MemoryStore, ResponseStore, StoredResponse, StoreError, Turn

ALICE, BOB = b"alice", b"bob"
KINDS = ("memory", "sqlite")
LIMITS = Limits(responses=5, bytes=100_000, seconds=3600.0)

MakeStore = Callable[..., ResponseStore]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "responses.db"


@pytest.fixture(params=KINDS)
def make_store(request: pytest.FixtureRequest, clock: Clock, path: Path) -> MakeStore:
    def make(limits: Limits = LIMITS) -> ResponseStore:
        return MemoryStore(limits, clock) if request.param == "memory" else SqliteStore(path, limits, clock)

    return make


@pytest.fixture
def store(make_store: MakeStore) -> ResponseStore:
    return make_store()


@pytest.fixture
def file_store(path: Path, clock: Clock) -> SqliteStore:
    return SqliteStore(path, LIMITS, clock)


def response(id: str, owner: bytes = ALICE, previous: str | None = None, size: int = 20) -> StoredResponse:
    """A response that counts with ``size`` and `OVERHEAD` bytes."""
    return StoredResponse(owner, Turn(id, previous, b"i" * (size // 2)), b"b" * (size - size // 2))


def kept(store: ResponseStore, *ids: str, owner: bytes = ALICE) -> list[str]:
    return [id for id in ids if store.get(owner, id) is not None]


def test_a_response_comes_back_as_it_was(store: ResponseStore) -> None:
    first, second = response("a"), response("b", previous="a")
    store.put(first)
    store.put(second)
    assert (store.get(ALICE, "a"), store.get(ALICE, "b")) == (first, second)
    assert store.turn(ALICE, "b") == second.turn
    assert (store.get(ALICE, "c"), store.turn(ALICE, "c")) == (None, None)


def test_nobody_sees_or_erases_what_another_owner_has(store: ResponseStore) -> None:
    store.put(response("a"))
    assert (store.get(BOB, "a"), store.turn(BOB, "a")) == (None, None)
    assert not store.delete(BOB, "a")
    assert kept(store, "a") == ["a"]


def test_what_is_deleted_is_gone(store: ResponseStore) -> None:
    store.put(response("a"))
    store.put(response("b"))
    assert store.delete(ALICE, "a")
    assert not store.delete(ALICE, "a")
    assert kept(store, "a", "b") == ["b"]


def test_beyond_the_number_the_oldest_goes_first(store: ResponseStore, clock: Clock) -> None:
    for id in "abcdefg":
        clock.now += 1
        store.put(response(id))
    assert kept(store, *"abcdefg") == list("cdefg")


def test_in_one_moment_the_order_is_that_of_the_calls(store: ResponseStore) -> None:
    for id in "abcdefg":
        store.put(response(id))
    assert kept(store, *"abcdefg") == list("cdefg")


def test_beyond_the_bytes_the_oldest_go_first(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(Limits(responses=100, bytes=3 * (OVERHEAD + 1000)))
    for id in "abc":
        clock.now += 1
        store.put(response(id, size=1000))
    assert kept(store, *"abc") == list("abc")
    clock.now += 1
    store.put(response("d", size=1001))
    assert kept(store, *"abcd") == list("cd")


def test_a_response_that_is_larger_than_the_store_is_not_kept(make_store: MakeStore) -> None:
    store = make_store(Limits(bytes=OVERHEAD + 10))
    store.put(response("a", size=11))
    assert kept(store, "a") == []
    store.put(response("b", size=10))
    assert kept(store, "b") == ["b"]


def test_after_its_time_a_response_is_gone(store: ResponseStore, clock: Clock) -> None:
    store.put(response("a"))
    clock.now += 3599
    store.put(response("b"))
    assert kept(store, "a", "b") == ["a", "b"]
    clock.now += 1
    assert kept(store, "a", "b") == ["b"]
    assert store.turn(ALICE, "a") is None
    assert not store.delete(ALICE, "a")


def test_use_renews_a_response(store: ResponseStore, clock: Clock) -> None:
    store.put(response("a"))
    store.put(response("b"))
    clock.now += 3599
    store.renew(ALICE, ["a", "nothing"])
    store.renew(BOB, ["b"])
    clock.now += 3599
    assert kept(store, "a", "b") == ["a"]


def test_what_was_renewed_goes_last(store: ResponseStore, clock: Clock) -> None:
    for id in "abcde":
        clock.now += 1
        store.put(response(id))
    clock.now += 1
    store.renew(ALICE, ["a"])
    clock.now += 1
    store.put(response("f"))
    assert kept(store, *"abcdef") == list("acdef")


def test_a_sweep_erases_what_is_too_old(store: ResponseStore, clock: Clock) -> None:
    store.put(response("a"))
    assert store.sweep()
    clock.now += 3600
    assert not store.sweep()
    clock.now -= 3600
    assert kept(store, "a") == []


def test_the_store_sweeps_itself(store: ResponseStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SWEEP_INTERVAL", 0.01)
    swept = threading.Event()
    sweep = store.sweep

    def note() -> bool:
        left = sweep()
        if not left:
            swept.set()
        return left

    monkeypatch.setattr(store, "sweep", note)
    store.put(response("a"))
    clock.now += 3600
    assert swept.wait(60)


def test_a_store_that_is_gone_is_not_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SWEEP_INTERVAL", 0.01)
    store = MemoryStore()
    store.put(response("a"))
    sweeper = store._sweeper
    assert sweeper is not None
    del store
    sweeper.join(60)
    assert not sweeper.is_alive()


def test_many_threads_may_use_a_store(make_store: MakeStore) -> None:
    store = make_store(Limits(responses=1000))
    faults: list[BaseException] = []

    def use(name: int) -> None:
        try:
            for number in range(20):
                store.put(response(f"{name}-{number}"))
                assert store.turn(ALICE, f"{name}-{number}") is not None
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=use, args=[name]) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(kept(store, *(f"{name}-{number}" for name in range(8) for number in range(20)))) == 160


class TestFile:
    def test_it_survives_its_process(self, path: Path, clock: Clock, file_store: SqliteStore) -> None:
        first = response("a")
        file_store.put(first)
        file_store.close()
        again = SqliteStore(path, LIMITS, clock)
        again.open()
        assert again.get(ALICE, "a") == first

    def test_what_became_too_old_meanwhile_is_erased_at_the_start(
        self, path: Path, clock: Clock, file_store: SqliteStore
    ) -> None:
        file_store.put(response("a"))
        file_store.close()
        clock.now += 3600
        SqliteStore(path, LIMITS, clock).open()
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM responses").fetchone() == (0,)

    def test_two_processes_may_share_it(self, path: Path, clock: Clock, file_store: SqliteStore) -> None:
        other = SqliteStore(path, LIMITS, clock)
        file_store.put(response("a"))
        other.put(response("b"))
        assert kept(file_store, "a", "b") == kept(other, "a", "b") == ["a", "b"]

    def test_only_its_user_may_read_it(self, path: Path, file_store: SqliteStore) -> None:
        file_store.put(response("a"))
        files = list(path.parent.iterdir())
        assert len(files) == 3
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}

    @pytest.mark.parametrize("how", ["deleted", "swept", "expired", "displaced"])
    def test_nothing_of_what_is_erased_stays_on_the_disk(
        self, path: Path, clock: Clock, file_store: SqliteStore, how: str
    ) -> None:
        secret = b"a secret that nobody may find" * 500
        file_store.put(response("a"))
        file_store.put(StoredResponse(ALICE, Turn("b", None, secret), secret))

        def on_disk() -> bytes:
            return b"".join(file.read_bytes() for file in path.parent.iterdir())

        assert secret[:29] in on_disk()
        match how:
            case "deleted":
                file_store.delete(ALICE, "b")
            case "displaced":
                for number in range(LIMITS.responses):
                    file_store.put(response(str(number)))
                file_store.sweep()
            case _:
                clock.now += 3600
                if how == "expired":
                    file_store.put(response("c"))
                file_store.sweep()
        assert secret[:29] not in on_disk()

    def test_a_clock_that_was_wrong_keeps_nothing_longer(self, clock: Clock, file_store: SqliteStore) -> None:
        clock.now += 1e6
        file_store.put(response("a"))
        clock.now -= 1e6
        file_store.put(response("b"))
        clock.now += 3600
        assert kept(file_store, "a", "b") == []

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"no database " * 500, "not a database"), (None, "another program")],
        ids=["damaged", "another program's"],
    )
    def test_a_file_that_cannot_be_used_is_reported_once(
        self, path: Path, file_store: SqliteStore, caplog: pytest.LogCaptureFixture, content: bytes | None, reason: str
    ) -> None:
        if content is None:
            with sqlite3.connect(path) as connection:
                connection.execute("CREATE TABLE bookmarks (name TEXT)")
            connection.close()
            content = path.read_bytes()
        path.write_bytes(content)
        with caplog.at_level(logging.INFO, "glm_api"):
            file_store.open()
            for _ in range(3):
                with pytest.raises(StoreError):
                    file_store.put(response("a"))
                with pytest.raises(StoreError):
                    file_store.get(ALICE, "a")
            assert path.read_bytes() == content
            path.unlink()
            file_store.put(response("a"))
        first, second = caplog.messages
        assert first.startswith(f"GLM_RESPONSE_STORE: {path} cannot be used (")
        assert reason in first
        assert second == f"GLM_RESPONSE_STORE: {path} can be used again."
        assert kept(file_store, "a") == ["a"]

    def test_a_file_that_is_damaged_later_is_reported(
        self, path: Path, file_store: SqliteStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        file_store.put(response("a", size=50_000))
        file_store.close()
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        with pytest.raises(StoreError):
            file_store.get(ALICE, "a")
        assert "malformed" in caplog.text

    def test_a_disk_that_is_full_costs_only_what_does_not_fit(self, file_store: SqliteStore) -> None:
        file_store.put(response("a"))
        connection = file_store._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError):
            file_store.put(response("b", size=50_000))
        assert kept(file_store, "a", "b") == ["a"]

    def test_a_file_that_another_process_holds_is_not_waited_for(
        self, path: Path, clock: Clock, file_store: SqliteStore
    ) -> None:
        file_store.put(response("a"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError):
            file_store.put(response("b"))
        assert kept(file_store, "a") == ["a"]
        other.execute("ROLLBACK")
        other.close()
        file_store.put(response("b"))
        assert kept(file_store, "a", "b") == ["a", "b"]
