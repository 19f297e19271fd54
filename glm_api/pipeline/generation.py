"""One request in the pipeline, from the queue to the last event."""

from __future__ import annotations

from collections.abc import Callable

from glm_api.backend.admission import Admission, QueuedRequest
from glm_api.pipeline.frames import Event, Finished, Generate


class Generation(QueuedRequest[Event]):
    """The answers to one `Job`. Made by `Pipeline.generate`.

    ``dispatch`` is called when it has its turn, ``cancel_work`` when it was closed while it ran. Its place is given
    back when the pipeline process says that it has stopped, or is gone.
    """

    def __init__(
        self,
        work: Generate,
        admission: Admission[Generation],
        dispatch: Callable[[Generation], None],
        cancel_work: Callable[[Generation], None],
    ) -> None:
        super().__init__(admission)
        self.id = work.id
        self.work = work
        self._unanswered = len(work.prompts)
        self._dispatch = dispatch
        self._cancel_work = cancel_work

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the longest prompt of this job, those of an image included."""
        return max(self.work.sizes)

    def ends_with(self, event: Finished) -> bool:
        """Take note that a prompt is answered; return whether no event follows."""
        self._unanswered = 0 if event.reason == "cancelled" else self._unanswered - 1
        return self._unanswered == 0

    def _on_turn(self) -> None:
        self._dispatch(self)

    def _stop_work(self) -> None:
        self._cancel_work(self)
