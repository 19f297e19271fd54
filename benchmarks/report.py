"""The results as Markdown: a table of the targets, then the details."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figure

Found = Mapping[str, Any]

SIDES = ("this server", "original server")
WAYS = {
    "schema": "held to a JSON schema",
    "sampled": "sampled (temperature 1, top_p 0.9)",
    "tools": "held to the grammar of tool calls, none made",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One target. ``original`` and ``server`` are formatted figures; ``met`` is None if nothing was really measured."""

    what: str
    original: str
    server: str
    target: str
    met: bool | None


def markdown(found: Found, pictures: list[str]) -> str:
    """Return the whole report."""
    lines = ["# Measured", "", *_machine(found["machine"]), ""]
    least, most = min(found["other_work_percent"]), max(found["other_work_percent"])
    lines += [f"When no part ran, other work took {least:.0f} to {most:.0f} % of its CPUs.", ""]
    if found["quick"]:
        lines += ["Each part ran once only (`--quick`): these figures show that it runs, not how fast it is.", ""]
    head = ("", "original server", "this server", "target", "met")
    lines += ["## Targets", "", *_table(head, map(_cells, rows(found))), ""]
    for shape, parts in found["shapes"].items():
        lines += [f"## {shape}", "", f"{parts['model'][0].upper()}{parts['model'][1:]}.", ""]
        for part, render in _DETAILS.items():
            if part in parts:
                lines += [*render(parts[part]), ""]
    lines += [f"![]({picture})" for picture in pictures]
    return "\n".join(lines).rstrip() + "\n"


def rows(found: Found) -> Iterator[Row]:
    """Yield each target, for each model that it was measured with."""
    for shape, parts in found["shapes"].items():
        for part, render in _TARGETS.items():
            if part in parts:
                yield from render(shape, parts[part])


def _speed_rows(shape: str, part: Found) -> Iterator[Row]:
    target = 0.90 if shape == "tiny" else 0.99
    yield _ratio_row("of the bare loop", shape, part["ratio_to_bare"], target)


def _threads_rows(shape: str, part: Found) -> Iterator[Row]:
    for ratios, target, what in (
        (part["idle_ratio"], 0.95, "default threads, of the bare loop with its best number of them"),
        (part["busy_ratio"], 0.50, f"default threads beside {part['cpus']} busy loops, of the bare loop with 1 thread"),
    ):
        yield _ratio_row(what, shape, ratios, target)


def _ratio_row(what: str, shape: str, ratios: Found, target: float) -> Row:
    server = ratios["server"]
    return Row(
        f"tokens/s through HTTP, {what} ({shape})",
        _spread(ratios["original"], "{:.3f}"),
        _spread(server, "{:.3f}"),
        f">= {target:.2f}",
        server["median"] >= target,
    )


def _choosing_rows(shape: str, part: Found) -> Iterator[Row]:
    if shape == "tiny":
        return
    ratio = part["ratio"]["schema"]
    yield Row(
        f"tokens/s of decode with a JSON schema, of those without ({shape})",
        "-",
        _spread(ratio, "{:.3f}"),
        ">= 0.97",
        ratio["median"] >= 0.97,
    )


def _responsiveness_rows(shape: str, part: Found) -> Iterator[Row]:
    p99 = part["server"]["p99_ms"]
    yield Row(
        f"`GET /health` p99 while a prompt is read ({shape})",
        f"{part['original']['p99_ms']:,.0f} ms",
        f"{p99:.1f} ms",
        "<= 10 ms",
        p99 <= 10,
    )


def _first_token_rows(shape: str, part: Found) -> Iterator[Row]:
    chats = {"times_faster": "turn 2 of a chat", "times_faster_alternating": "the same, two chats in turns"}
    for key, what in chats.items():
        yield Row(
            f"time to first token, {what}, {part['history_tokens']} tokens of history ({shape})",
            "1x",
            f"{part[key]:.1f}x faster",
            ">= 20x faster",
            part[key] >= 20,
        )


def _freeing_rows(shape: str, part: Found) -> Iterator[Row]:
    for state, other in (
        ("decode, streamed", "decode, streamed"),
        ("decode, not streamed", "decode, not streamed"),
        ("prefill, step mode", "prefill"),
    ):
        tokens = part["server"][state]
        yield Row(
            f"client gone until the pipeline is free, {state} ({shape})",
            f"{_spread(part['original'][other], '{:.1f}')} tokens",
            f"{_spread(tokens, '{:.2f}')} tokens",
            "<= 1 token",
            tokens["median"] <= 1,
        )


def _interruption_rows(shape: str, part: Found) -> Iterator[Row]:
    fraction = part["server"]["fraction"]
    yield Row(
        f"client gone until the pipeline is free, prefill in one call, of the call's time ({shape})",
        _spread(part["original"]["fraction"], "{:.3f}"),
        _spread(fraction, "{:.3f}"),
        "<= 0.020, always",
        fraction["most"] <= 0.02,
    )


def _waiting_rows(shape: str, part: Found) -> Iterator[Row]:
    worst = max(part["admitted_bytes"]["median"], part["pinged_bytes"]["median"])
    yield Row(
        f"memory of one waiting stream, of {part['streams']}",
        "-",
        f"{worst / 1000:.0f} KB",
        "<= 50 KB",
        worst <= 50_000,
    )


def _killing_rows(shape: str, part: Found) -> Iterator[Row]:
    server, original = part["server"], part["original"]
    end = "serves on" if original["serves_again"] else "is gone"
    yield Row(
        f"requests lost of {part['requests']} when the process that computes is killed",
        f"{original['lost']}, and the server {end}",
        f"{server['lost']['most']:.0f}",
        "0",
        server["lost"]["most"] == 0,
    )


def _engines_rows(shape: str, part: Found) -> Iterator[Row]:
    clients = f"{part['clients']} clients"
    for kind, what in (("decode", "1 client"), ("clients", clients)):
        yield _engine_row(
            f"llama.cpp: tokens/s, {what}, of llama-server alone ({shape})", part["of_llama_server"][kind], 0.98
        )
    for kind, what, target in (("decode", "decode", 1.4), ("prefill", "prefill", 2.0), ("clients", clients, 2.3)):
        # The targets are those of a model whose tokens take time.
        if shape != "tiny":
            what = f"llama.cpp: tokens/s, {what}, of chatglm-cpp ({shape})"
            yield _engine_row(what, part["of_chatglm_cpp"][kind], target)
    if "health" in part:
        p99 = part["health"]["p99_ms"]
        what = f"llama.cpp: `GET /health` p99 while a prompt is read ({shape})"
        yield Row(what, "-", f"{p99:.1f} ms", "<= 5 ms", p99 <= 5)
        fraction = part["interruption"]["fraction"]
        what = f"llama.cpp: client gone until the slot is free, of the whole prefill ({shape})"
        yield Row(what, "-", _spread(fraction, "{:.3f}"), "<= 0.020, always", fraction["most"] <= 0.02)


def _engine_row(what: str, ratio: Figure, target: float) -> Row:
    return Row(what, "-", _spread(ratio, "{:.3f}"), f">= {target:.2f}", ratio["median"] >= target)


_TARGETS: dict[str, Callable[[str, Found], Iterator[Row]]] = {
    "speed": _speed_rows,
    "threads": _threads_rows,
    "choosing": _choosing_rows,
    "responsiveness": _responsiveness_rows,
    "first_token": _first_token_rows,
    "freeing": _freeing_rows,
    "interruption": _interruption_rows,
    "waiting": _waiting_rows,
    "killing": _killing_rows,
    "engines": _engines_rows,
}


def _speed_details(part: Found) -> Iterator[str]:
    yield from _table(
        ("tokens/s, whole answers", "median", "least to most"),
        (
            (side, f"{rate['median']:,.4g}", f"{rate['least']:,.4g} to {rate['most']:,.4g}")
            for side, rate in _named(part["tokens_per_second"])
        ),
    )
    yield ""
    yield (
        f"For each token this server's web process used {part['web_cpu_us_per_token']['median']:.0f} µs of CPU time "
        f"and was woken {part['web_wake_ups_per_token']['median']:.2f} times, all that a request costs included."
    )


def _threads_details(part: Found) -> Iterator[str]:
    idle, busy, ratios = part["idle"], part["busy"], part["busy_ratio"]
    loops = f"beside {part['cpus']} busy loops"
    sides = [(f"bare loop, threads: {name}", name) for name in idle if name.isdigit()]
    sides += [("this server", "server"), ("original server", "original")]
    yield from _table(
        ("tokens/s, whole answers, default threads", "idle", "least to most", loops, "least to most"),
        ((side, *_rate_cells(idle[name]), *_rate_cells(busy.get(name))) for side, name in sides),
    )
    yield ""
    yield (
        f"This server used {_spread(idle['threads'], '{:.0f}')} threads for a token when idle, "
        f"{_spread(busy['threads'], '{:.0f}')} {loops}. There, a short answer by {part['cpus']} threads came at "
        f"{ratios['bare_all']['median']:.3f} of the speed of 1 thread from the bare loop, "
        f"at {ratios['original']['median']:.3f} from the original server."
    )


def _rate_cells(rate: Figure | None) -> tuple[str, str]:
    if rate is None:
        return "-", "-"
    return f"{rate['median']:,.4g}", f"{rate['least']:,.4g} to {rate['most']:,.4g}"


def _choosing_details(part: Found) -> Iterator[str]:
    yield from _table(
        ("tokens/s, decode only", "median", "least to most", "of greedy decode"),
        (
            (
                WAYS.get(way, way),
                *_rate_cells(rate),
                _spread(part["ratio"][way], "{:.3f}") if way in part["ratio"] else "-",
            )
            for way, rate in part["tokens_per_second"].items()
        ),
    )
    yield ""
    yield from _table(
        ("time to the first token, prompt cached, ms", "median", "least to most"),
        (
            (kind, f"{times['median']:,.1f}", f"{times['least']:,.1f} to {times['most']:,.1f}")
            for kind, times in part["first_token_ms"].items()
        ),
    )


def _startup_details(part: Found) -> Iterator[str]:
    times = ", ".join(f"{side} {seconds['median']:.2f} s" for side, seconds in _named(part))
    yield f"From start to ready, the file in the page cache: {times}."


def _responsiveness_details(part: Found) -> Iterator[str]:
    yield from _table(
        (f"milliseconds for a probe while {part['prompt_tokens']} tokens are read", "probes", "p50", "p99", "most"),
        (
            (side, str(probes["probes"]), *(f"{probes[key]:,.1f}" for key in ("p50_ms", "p99_ms", "most_ms")))
            for side, probes in (
                ("this server, idle", part["server_idle"]),
                ("this server", part["server"]),
                ("original server", part["original"]),
            )
        ),
    )


def _first_token_details(part: Found) -> Iterator[str]:
    read = part["tokens_read_for_a_turn"]
    yield from _table(
        ("time to first text, ms", "median", "least to most"),
        (
            (what, f"{part[key]['median']:,.0f}", f"{part[key]['least']:,.0f} to {part[key]['most']:,.0f}")
            for what, key in (
                (f"this server, new chat of {part['history_tokens']} tokens", "new_chat_ms"),
                ("this server, its next turns", "next_turn_ms"),
                ("this server, two chats in turns", "alternating_ms"),
                (f"original server, any turn (reads {part['original_tokens']} tokens, cuts the rest)", "original_ms"),
            )
        ),
    )
    yield ""
    yield f"A turn read {read['least']:.0f} to {read['most']:.0f} tokens anew; the rest was in its cache slot."


def _freeing_details(part: Found) -> Iterator[str]:
    yield f"A token takes {part['ms_per_token']:.1f} ms here."


def _interruption_details(part: Found) -> Iterator[str]:
    yield from _table(
        (
            f"prefill of {part['prompt_tokens']} tokens in one call",
            "the whole call, s",
            "client gone until the pipeline is free, ms",
        ),
        (
            (side, _spread(part[key]["whole_seconds"], "{:,.1f}"), _spread(part[key]["free_ms"], "{:,.0f}"))
            for side, key in zip(SIDES, ("server", "original"), strict=True)
        ),
    )


def _waiting_details(part: Found) -> Iterator[str]:
    yield (
        f"A stream that waits takes {part['admitted_bytes']['median'] / 1000:.1f} KB at first, "
        f"{part['pinged_bytes']['median'] / 1000:.1f} KB after its first ping."
    )


def _killing_details(part: Found) -> Iterator[str]:
    seconds = part["server"]["next_token_seconds"]
    if seconds is None:
        yield "The running answer did not go on after the process was killed."
    else:
        yield f"{seconds['median']:.2f} s after the process was killed, the running answer went on."


def _crowd_details(part: Found) -> Iterator[str]:
    yield from _table(
        (
            "clients",
            *(f"{side}: {what}" for side in SIDES for what in ("tokens/s", "p50", "p95")),
        ),
        (
            (
                str(ours["clients"]),
                *(
                    f"{row[key]['median']:,.0f}"
                    for row in (ours, theirs)
                    for key in ("tokens_per_second", "first_text_p50_ms", "first_text_p95_ms")
                ),
            )
            for ours, theirs in zip(part["server"], part["original"], strict=True)
        ),
    )
    yield ""
    yield "Tokens a second of all clients together; p50 and p95 of the time to the first text in milliseconds."


def _engines_details(part: Found) -> Iterator[str]:
    sides = {"chatglm-cpp": "this server, chatglm-cpp", "llama.cpp": "this server, llama.cpp"}
    kinds = {"decode": "decode", "prefill": "prefill", "clients": f"{part['clients']} clients"}
    rates = part["tokens_per_second"]
    yield from _table(
        ("tokens/s", *(cell for kind in kinds.values() for cell in (kind, "least to most"))),
        (
            (sides.get(side, side), *(cell for kind in kinds for cell in _rate_cells(rates[kind][side])))
            for side in rates["decode"]
        ),
    )
    yield ""
    yield from _table(
        ("time to first text, ms", "new chat", "its next turns"),
        (
            (
                f"{sides[name]}, {chat['history_tokens']} tokens",
                f"{chat['new_chat_ms']:,.0f}",
                _spread(chat["next_turn_ms"], "{:,.0f}"),
            )
            for name, chat in part["chats"].items()
        ),
    )
    if "health" in part:
        health, idle, interruption = part["health"], part["health_idle"], part["interruption"]
        yield ""
        yield (
            f"While llama.cpp read a prompt, {health['probes']} health checks took {health['p50_ms']:.1f} ms (p50), "
            f"{health['p99_ms']:.1f} ms (p99) and at most {health['most_ms']:.1f} ms; those of the idle server took "
            f"{idle['p50_ms']:.1f} and {idle['p99_ms']:.1f} ms. When a client left during a "
            f"prefill of {interruption['whole_seconds']:.1f} s, llama.cpp's slot was free after "
            f"{_spread(interruption['free_ms'], '{:,.0f}')} ms."
        )


_DETAILS: dict[str, Callable[[Found], Iterator[str]]] = {
    "speed": _speed_details,
    "threads": _threads_details,
    "choosing": _choosing_details,
    "responsiveness": _responsiveness_details,
    "first_token": _first_token_details,
    "freeing": _freeing_details,
    "interruption": _interruption_details,
    "waiting": _waiting_details,
    "killing": _killing_details,
    "startup": _startup_details,
    "crowd": _crowd_details,
    "engines": _engines_details,
}


def _machine(machine: Found) -> Iterator[str]:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    yield (
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['threads']} threads that compute on every side, "
        f"{machine['memory_gib']} GiB of memory. Linux {machine['kernel']}, Python {machine['python']}, {packages}. "
        f"Commit {machine['commit']}{', with changes' if machine['changed_since'] else ''}, {machine['date']}."
    )


def _named(by_side: Mapping[str, Figure]) -> Iterator[tuple[str, Figure]]:
    for key, name in (("bare", "bare loop"), ("server", "this server"), ("original", "original server")):
        yield name, by_side[key]


def _spread(values: Figure, form: str) -> str:
    middle = form.format(values["median"])
    if values["runs"] == 1:
        return middle
    return f"{middle} ({form.format(values['least'])} to {form.format(values['most'])})"


def _cells(row: Row) -> tuple[str, ...]:
    return row.what, row.original, f"**{row.server}**", row.target, "yes" if row.met else "no"


def _table(head: tuple[str, ...], body: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for cells in body:
        yield f"| {' | '.join(cells)} |"
