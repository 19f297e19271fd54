"""What the bridge adds to chatglm_cpp: logits, threads, Python's lock, and an end to a computation."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C, CALL_HOOK
from tests.support.model_files.fixtures import OpenModel
from tests.support.processes import ROOT

PROMPT = [5, 9, 14, 3, 7, 11]
# Long enough that a computation is under way when another thread looks.
LONG = [3 + index % 200 for index in range(1500)]


def config(penalty: float = CALL_HOOK) -> Any:
    return _C.GenerationConfig(do_sample=False, repetition_penalty=penalty)


def evaluate(opened: OpenModel, ids: list[int], penalty: float = CALL_HOOK) -> int:
    return int(opened.pipeline.model.generate_next_token(ids, None, config(penalty), 0, len(ids)))


def test_the_hook_sees_the_logits_that_the_choice_is_made_of(open_demo: OpenModel) -> None:
    seen = []
    with bridge.logits_hook(lambda logits: seen.append(logits.copy())) as raise_failure:
        token = evaluate(open_demo, PROMPT)
        raise_failure()
    assert len(seen[0]) == open_demo.pipeline.model.config.vocab_size
    assert token == int(seen[0].argmax()) == evaluate(open_demo, PROMPT, penalty=1.0)


def test_what_the_hook_leaves_is_what_is_chosen(open_demo: OpenModel) -> None:
    likeliest = evaluate(open_demo, PROMPT, penalty=1.0)

    def ban(logits: bridge.Logits) -> None:
        logits[likeliest] = -np.inf

    def force(logits: bridge.Logits) -> None:
        logits[17] = np.inf

    with bridge.logits_hook(ban):
        assert evaluate(open_demo, PROMPT) != likeliest
    with bridge.logits_hook(force):
        assert evaluate(open_demo, PROMPT) == 17
    assert evaluate(open_demo, PROMPT) == likeliest


def test_the_hook_is_not_called_without_need(open_demo: OpenModel) -> None:
    calls: list[int] = []
    with bridge.logits_hook(lambda logits: calls.append(1)):
        evaluate(open_demo, PROMPT, penalty=1.0)
    assert calls == []


def test_what_the_hook_raises_is_raised_after_the_evaluation(open_demo: OpenModel) -> None:
    def fail(logits: bridge.Logits) -> None:
        raise ValueError("no")

    with bridge.logits_hook(fail) as raise_failure:
        evaluate(open_demo, PROMPT)
        with pytest.raises(ValueError, match=r"^no$"):
            raise_failure()
        raise_failure()


def test_other_threads_run_while_the_model_computes(open_demo: OpenModel) -> None:
    steps = 0
    over = threading.Event()
    counts = []

    def compute() -> None:
        counts.append(steps)
        evaluate(open_demo, LONG)
        counts.append(steps)
        over.set()

    # A thread that holds the lock is asked to give it up after 5 ms, so few of these would do with it held.
    computing = threading.Thread(target=compute)
    computing.start()
    while not over.wait(0.001):
        steps += 1
    computing.join()
    assert counts[1] - counts[0] >= 20


@pytest.mark.parametrize("threads", [1, 2])
def test_a_computation_ends_when_it_is_told_to_and_the_next_one_is_right(open_demo: OpenModel, threads: int) -> None:
    expected = evaluate(open_demo, LONG)
    before = bridge.nodes()
    evaluate(open_demo, LONG)
    whole = bridge.nodes() - before
    failures: list[BaseException] = []

    def compute() -> None:
        try:
            evaluate(open_demo, LONG)
        except RuntimeError as error:
            failures.append(error)

    # Again and again: with more than one thread, an end must find all of them at the same place.
    try:
        for _ in range(5):
            bridge.set_threads(threads)
            computing = threading.Thread(target=compute)
            before = bridge.nodes()
            computing.start()
            while bridge.nodes() - before < 5:
                pass
            bridge.abort()
            computing.join()
            bridge.abort(False)
            assert bridge.nodes() - before < whole
    finally:
        bridge.set_threads(1)
    assert len(failures) == 5
    assert evaluate(open_demo, LONG) == expected


def test_a_computation_that_takes_too_long_is_given_up(open_demo: OpenModel) -> None:
    expected = evaluate(open_demo, LONG)
    assert not bridge.gave_up()
    bridge.set_threads(1, most=1e-9)
    with pytest.raises(RuntimeError):
        evaluate(open_demo, LONG)
    assert bridge.gave_up()
    bridge.set_threads(1)
    assert evaluate(open_demo, LONG) == expected
    assert not bridge.gave_up()


def test_the_parts_of_a_computation_give_what_the_whole_gives(open_demo: OpenModel) -> None:
    def logits(expected: float) -> bridge.Logits:
        seen = []
        bridge.set_threads(1, expected)
        with bridge.logits_hook(lambda logits: seen.append(logits.copy())):
            evaluate(open_demo, LONG)
        bridge.set_threads(1)
        return seen[0]

    # Very long: each node is a part. Very short: all of them are one.
    np.testing.assert_array_equal(logits(1e9), logits(1e-9))


def living_threads(name: str) -> int:
    """Return how many threads of this process have this name and have not ended.

    A thread that has been joined stays in the list for a moment, so a list may have it and its successor. It ended
    before its successor began: flags that are read after the list tell that it did.
    """
    pf_exiting = 0x4
    living = 0
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            before, _, after = Path("/proc/self/task", thread, "stat").read_text().rpartition(")")
            living += before.endswith(f"({name}") and not int(after.split()[6]) & pf_exiting
    return living


def test_the_number_of_threads_is_the_one_that_was_set(open_demo: OpenModel) -> None:
    def threads_after(count: int) -> int:
        bridge.set_threads(count)
        # The threads that this one starts inherit its name. Others of this process may begin meanwhile.
        name = f"computing {count}"

        def compute() -> None:
            Path("/proc/self/task", str(threading.get_native_id()), "comm").write_text(name)
            evaluate(open_demo, LONG)

        most = 0
        computing = threading.Thread(target=compute)
        computing.start()
        while computing.is_alive():
            most = max(most, living_threads(name))
        return most

    try:
        # The thread that evaluates computes too.
        assert [threads_after(count) for count in (1, 2, 3)] == [1, 2, 3]
    finally:
        bridge.set_threads(1)


def test_the_installed_extension_passes_the_check(open_demo: OpenModel) -> None:
    assert bridge.check(open_demo.pipeline.model) is True


def test_an_extension_that_does_not_call_the_bridge_is_refused() -> None:
    class Inlined:
        def generate_next_token(self, *arguments: object) -> int:
            return 0

    with pytest.raises(bridge.BridgeError, match=r"^This build of chatglm-cpp does not call [^\n]+ Build it with"):
        bridge.check(Inlined())


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.stderr.strip().splitlines()[-1]


def test_an_extension_that_was_imported_first_is_refused() -> None:
    assert "BridgeError: chatglm_cpp was imported before" in run(
        "import chatglm_cpp; from glm_api.pipeline.worker.chatglm_cpp import bridge; bridge.set_threads(1)"
    )


def test_a_missing_library_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bridge, "LIBRARY", tmp_path / "libbridge.so")
    monkeypatch.delitem(sys.modules, "chatglm_cpp._C")
    with pytest.raises(bridge.BridgeError, match=r"^libbridge.so is missing .* `make setup` builds it.$"):
        bridge._open()
