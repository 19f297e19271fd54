"""What a request for a response takes from the stored responses, and what its answer leaves there."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from flask import Flask, current_app

from config import Settings
from glm_api.api.json_body import MAX_CONTAINERS
from glm_api.api.messages import MAX_MESSAGES
from glm_api.context import settings
from glm_api.errors import NO_RETRY, SERVER_ERROR, ApiError, invalid
from glm_api.middleware.auth import caller
from glm_api.responses.items import Input, Item, ReferenceItem, load_item, to_stored
from glm_api.responses.sqlite_store import SqliteStore
from glm_api.responses.store import MemoryStore, ResponseStore, StoredResponse, StoreError, Turn

Found = TypeVar("Found")

EXTENSION = "glm_response_store"

_OFF = "GLM_RESPONSE_STORE is off, so this server stores no responses; send the whole conversation as input"

# A response and its items have ids with the same digits, so that a reference to an item tells where to look. The items
# of the output are numbered from 0, those of the input from here.
FIRST_INPUT = 0x8000
ID_DIGITS = 32
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}

Items = list[dict[str, Any]]


def open_store(app: Flask, settings: Settings) -> None:
    """Give ``app`` the store that ``settings`` choose, if any."""
    store: ResponseStore | None = None
    if isinstance(settings.response_store, str):
        store = MemoryStore() if settings.response_store == "memory" else None
    else:
        store = SqliteStore(settings.response_store)
        store.open()
    app.extensions[EXTENSION] = store


def _store() -> ResponseStore | None:
    store: ResponseStore | None = current_app.extensions[EXTENSION]
    return store


def item_id(response_id: str, type: str, number: int) -> str:
    """Return the id of an item of a response."""
    return f"{_PREFIXES[type]}_{response_id.removeprefix('resp_')}{number:04x}"


@dataclass(frozen=True, slots=True)
class History:
    """The items of a conversation: ``earlier`` are those of previous responses, ``own`` those of the request.

    ``sent`` are the items of the request as JSON.
    """

    earlier: tuple[Item, ...]
    own: tuple[Item, ...]
    sent: tuple[dict[str, Any], ...]


def read_history(input: Input, previous: str | None) -> History:
    """Return the conversation that ``input`` continues. Raises `ApiError`."""
    earlier: tuple[Item, ...] = ()
    if previous is not None:
        earlier = tuple(load_item(item) for item in _conversation(previous) if _can_go_on(item))
    if not any(isinstance(item, ReferenceItem) for item in input.items):
        return History(earlier, cast("tuple[Item, ...]", input.items), input.sent)
    pairs = [
        _referred(item.id, f"input.{index}.id") if isinstance(item, ReferenceItem) else (item, sent)
        for index, (item, sent) in enumerate(zip(input.items, input.sent, strict=True))
    ]
    return History(earlier, tuple(item for item, _ in pairs), tuple(sent for _, sent in pairs))


def _can_go_on(item: dict[str, Any]) -> bool:
    # Nobody can have answered a call that was cut.
    return not (item["type"] == "function_call" and item["status"] == "incomplete")


def _conversation(last: str) -> Items:
    """Return all items of the conversation that ends with the response ``last``, in order. Raises `ApiError`.

    A conversation has no more items and bytes than one request may have. Its responses count as used now.
    """
    store = _store()
    if store is None:
        raise invalid(
            f"Invalid 'previous_response_id': it is not supported, because {_OFF}.",
            "previous_response_id",
            "unsupported_parameter",
        )
    turns = _chain(store, last)
    items: Items = []
    parts = 0
    for turn in turns:
        found = _items(turn)
        parts += sum(map(_size, found))
        items += found
        if len(items) > MAX_MESSAGES or parts > MAX_CONTAINERS:
            raise _too_long(f"it has more than {MAX_MESSAGES} items, or more than {MAX_CONTAINERS} with their parts")
    with suppress(StoreError):
        store.renew(caller(), [turn.id for turn in turns])
    return items


def _size(item: dict[str, Any]) -> int:
    parts = item.get("content") or item.get("output")
    return 1 + (len(parts) if isinstance(parts, list) else 0)


def _chain(store: ResponseStore, last: str) -> list[Turn]:
    """Return the turns of a conversation, the first one first. Raises `ApiError` if it is too long or has a gap."""
    turns: list[Turn] = []
    size = 0
    id: str | None = last
    while id is not None:
        turn = _read(store.turn, id)
        if turn is None:
            raise _previous_not_found(id, last)
        turns.append(turn)
        size += len(turn.items)
        if size > settings.max_body_bytes or len(turns) > MAX_MESSAGES:
            raise _too_long(f"it has more than {settings.max_body_bytes} bytes")
        id = turn.previous
    return turns[::-1]


def _previous_not_found(id: str, last: str) -> ApiError:
    message = f"Previous response with id '{id}' not found."
    if id != last:
        message += f" It has been deleted or has expired, and '{last}' continues its conversation."
    return invalid(message, "previous_response_id", "previous_response_not_found")


def _too_long(reason: str) -> ApiError:
    return invalid(
        f"Invalid 'previous_response_id': its conversation is too long, because {reason}. Begin a new one.",
        "previous_response_id",
    )


def _items(turn: Turn) -> Items:
    inputs, outputs = json.loads(turn.items)
    return [*inputs, *outputs]


def _referred(id: str, param: str) -> tuple[Item, dict[str, Any]]:
    """Return the stored item ``id``. Raises `ApiError`."""
    digits = id.rpartition("_")[2][:ID_DIGITS]
    store = _store()
    turn = None if store is None else _read(store.turn, f"resp_{digits}")
    for item in () if turn is None else _items(turn):
        if item["id"] == id:
            return load_item(item), item
    message = f"Item with id '{id}' not found: it is not stored here, or no longer. Send the item itself."
    raise ApiError(404, message, param=param)


@dataclass(frozen=True, slots=True)
class Keeper:
    """Stores the response to a request; works after the request, too, at the end of a stream."""

    store: ResponseStore
    owner: bytes
    history: History

    def keep(self, body: dict[str, Any]) -> bool:
        """Store the response object ``body``, and return whether that went well."""
        id = body["id"]
        inputs = [
            to_stored(item, item_id(id, item.get("type") or "message", number))
            for number, item in enumerate(self.history.sent, start=FIRST_INPUT)
        ]
        turn = Turn(id, body["previous_response_id"], _dump([inputs, body["output"]]))
        try:
            self.store.put(StoredResponse(self.owner, turn, _dump({**body, "output": []})))
        except StoreError:
            return False
        return True


def keeper_of(store: bool | None, history: History) -> Keeper | None:
    """Return what stores the response to a request that says ``store``; None stores nothing. Raises `ApiError`."""
    kept_in = _store()
    if kept_in is not None:
        return None if store is False else Keeper(kept_in, caller(), history)
    if store and not settings.lenient:
        raise invalid(
            f"Invalid 'store': it is not supported, because {_OFF}. Leave it out.", "store", "unsupported_parameter"
        )
    return None


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def stored_body(id: str) -> dict[str, Any]:
    """Return the stored response object ``id``. Raises `ApiError`."""
    stored = _found(id)
    body: dict[str, Any] = json.loads(stored.body)
    body["output"] = json.loads(stored.turn.items)[1]
    return body


def stored_inputs(id: str) -> Items:
    """Return the items that the response ``id`` answers, in order. Raises `ApiError`.

    They include those of the responses that it continues, as far as those are still stored.
    """
    turn: Turn | None = _found(id).turn
    store = _store()
    assert store is not None
    assert turn is not None
    inputs: list[Items] = [json.loads(turn.items)[0]]
    size = len(turn.items)
    while turn.previous is not None:
        turn = _read(store.turn, turn.previous)
        if turn is None:
            break
        size += len(turn.items)
        if size > settings.max_body_bytes:
            break
        inputs.append(_items(turn))
    return [item for items in reversed(inputs) for item in items]


def erase(id: str) -> None:
    """Erase the stored response ``id``. Raises `ApiError`."""
    store = _store()
    if store is None or not _read(store.delete, id):
        raise _not_found(id)


def _found(id: str) -> StoredResponse:
    store = _store()
    stored = None if store is None else _read(store.get, id)
    if stored is None:
        raise _not_found(id)
    return stored


def _read(method: Callable[[bytes, str], Found], id: str) -> Found:
    """Call a method of the store for the caller of the request. Raises `ApiError` if the store cannot be used."""
    try:
        return method(caller(), id)
    except StoreError:
        message = "The server cannot use its stored responses. See the server's log."
        raise ApiError(500, message, type=SERVER_ERROR, headers=NO_RETRY) from None


def _not_found(id: str) -> ApiError:
    return ApiError(404, f"Response with id '{id[:64]}' not found.")
