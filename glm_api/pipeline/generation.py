"""One request in the pipeline, from the queue to the last event."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from glm_api.backend.admission import Admission, QueuedRequest
from glm_api.pipeline.frames import (
    Event,
    Finished,
    Generate,
    PromptLogprobs,
    Reasoning,
    Started,
    Text,
    ToolArguments,
    ToolCallStarted,
)

# So many processes may die one after the other at the same place of a request.
DEATHS = 2


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
        self.processed: int | None = None
        """Tokens of the prompt that have been evaluated, if that is known."""
        self.started: Started | None = None
        """How the evaluation of the prompt began that is being answered; None before."""
        # How far the work is: prompts answered; and of the next one, whether its events have begun, the ids that its
        # answer begins with, and whether there were events since that `fed` does not count.
        self._answered = 0
        self._started = False
        self._fed: list[int] = []
        self._uncounted = False
        # How far it was when a pipeline process began with it (prompts answered, ids); and how many have died in a row
        # before they got further.
        self._began_with = (0, 0)
        self._deaths = 0
        self._dispatch = dispatch
        self._cancel_work = cancel_work

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the longest prompt of this job, those of an image included."""
        return max(self.work.sizes)

    @property
    def generated_tokens(self) -> int:
        """Tokens of the answer so far; 0 while llama.cpp answers by the template of its file, which tells no ids."""
        return len(self._fed)

    def work_left(self) -> Generate:
        """Return the work that a pipeline process has to do, the first or another one after that has died."""
        self._began_with = (self._answered, len(self._fed))
        return msgspec.structs.replace(self.work, answered=self._answered, fed=self._fed)

    def can_go_on(self) -> bool:
        """The process that worked on it has died: return whether another one can go on, and shall try.

        It shall not when `DEATHS` processes in a row have died before they got further: the request may be the reason.
        """
        further = self._began_with != (self._answered, len(self._fed))
        self._deaths = 1 if further else self._deaths + 1
        # The log-probabilities of ids that were held back are lost.
        lost = self._uncounted or (self._fed and self.work.sampling.top_logprobs is not None)
        return not lost and self._deaths < DEATHS

    def take(self, event: Event) -> bool:
        """Give ``event`` to the consumer, unless it has it already; return whether no event follows."""
        match event:
            case Text() | Reasoning() | ToolCallStarted() | ToolArguments():
                self._fed += event.fed
                self._uncounted = not event.fed
            case Started():
                self.started = event
                if self._started:
                    return False
                self._started = True
            case PromptLogprobs():
                self._uncounted = True
            case Finished():
                self._answered = len(self.work.prompts) if event.reason == "cancelled" else self._answered + 1
                self._started = self._uncounted = False
                self._fed = []
        self.put(event)
        return self._answered == len(self.work.prompts)

    def _on_turn(self) -> None:
        self._dispatch(self)

    def _stop_work(self) -> None:
        self._cancel_work(self)
