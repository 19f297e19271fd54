"""The plots of a report, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

mpl.use("svg")

SERVER, ORIGINAL, BARE = "#1b7f5c", "#c8553d", "#8a8f98"
ENGINES = {"chatglm-cpp": ORIGINAL, "llama.cpp": SERVER, "llama-server": BARE}
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
    # The same figures give the same file.
    "svg.hashsalt": "glm",
}


def draw(found: Mapping[str, Any], folder: Path, name: str) -> list[Path]:
    """Draw each plot that ``found`` has the figures for into a file; return the paths."""
    drawn: list[Path] = []
    with plt.rc_context(STYLE):
        for shape, parts in found["shapes"].items():
            for part, picture in _PICTURES.items():
                if part in parts:
                    drawn.append(folder / f"{name}-{shape}-{part.replace('_', '-')}.svg")
                    picture(parts[part], shape)
                    plt.savefig(drawn[-1], metadata={"Date": None}, bbox_inches="tight")
                    plt.close()
    return drawn


def _speed(part: Mapping[str, Any], shape: str) -> None:
    _, axes = plt.subplots(figsize=(6, 2))
    rates = part["tokens_per_second"]
    sides = (("bare loop", "bare", BARE), ("this server", "server", SERVER), ("original server", "original", ORIGINAL))
    _bars(axes, [(name, rates[side], color) for name, side, color in sides], "{:,.4g}")
    axes.set_xlabel("tokens a second, whole answers; lines: all runs")
    axes.set_title(f"Speed of one client ({shape} model)", loc="left")


def _threads(part: Mapping[str, Any], shape: str) -> None:
    cases = {"idle machine": part["idle"], f"beside {part['cpus']} busy loops": part["busy"]}
    bars = {case: _thread_bars(rates) for case, rates in cases.items()}
    heights = [len(case) for case in bars.values()]
    _, panels = plt.subplots(
        len(bars), figsize=(6, 0.5 * sum(heights) + 1), height_ratios=heights, layout="constrained"
    )
    for axes, (case, rates) in zip(panels, bars.items(), strict=True):
        _bars(axes, rates, "{:,.4g}")
        axes.set_title(f"Default number of threads, {case} ({shape} model)", loc="left")
    axes.set_xlabel("tokens a second, whole answers; lines: all runs")


def _thread_bars(rates: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float], str]]:
    bars = [(f"bare loop, threads: {name}", rate, BARE) for name, rate in rates.items() if name.isdigit()]
    for name, side, color in (("server", "this server", SERVER), ("original", "original server", ORIGINAL)):
        if name in rates:
            bars.append((side, rates[name], color))
    return bars


def _choosing(part: Mapping[str, Any], shape: str) -> None:
    _, axes = plt.subplots(figsize=(6, 2.4))
    rates = part["tokens_per_second"]
    _bars(axes, [(way, rate, SERVER if way in part["ratio"] else BARE) for way, rate in rates.items()], "{:,.4g}")
    axes.set_xlabel("tokens a second, decode only; lines: all runs")
    axes.set_title(f"Speed by what chooses the tokens ({shape} model)", loc="left")


def _first_token(part: Mapping[str, Any], shape: str) -> None:
    _, axes = plt.subplots(figsize=(6, 2.4))
    _bars(
        axes,
        [
            (f"this server, new chat ({part['history_tokens']} tokens)", part["new_chat_ms"], SERVER),
            ("this server, next turn", part["next_turn_ms"], SERVER),
            ("this server, two chats in turns", part["alternating_ms"], SERVER),
            (f"original server, any turn (cut to {part['original_tokens']})", part["original_ms"], ORIGINAL),
        ],
        "{:,.0f}",
    )
    axes.set_xlabel("milliseconds; lines: all runs")
    axes.set_title(f"Time to the first text ({shape} model)", loc="left")


def _bars(axes: Axes, bars: list[tuple[str, Mapping[str, float], str]], form: str) -> None:
    for place, (_, values, color) in enumerate(reversed(bars)):
        axes.barh(place, values["median"], color=color, height=0.6)
        axes.plot([values["least"], values["most"]], [place, place], color="black", linewidth=1)
        axes.annotate(
            form.format(values["median"]),
            (max(values["median"], values["most"]), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(bars)), [label for label, _, _ in reversed(bars)])
    axes.margins(x=0.12)


def _crowd(part: Mapping[str, Any], shape: str) -> None:
    _, (rates, waits) = plt.subplots(1, 2, figsize=(9, 3.2))
    for side, name, color in (("server", "this server", SERVER), ("original", "original server", ORIGINAL)):
        clients = [row["clients"] for row in part[side]]
        _line(rates, clients, [row["tokens_per_second"] for row in part[side]], name, color)
        _line(waits, clients, [row["first_text_p95_ms"] for row in part[side]], name, color)
    rates.set_title(f"Tokens a second of all clients ({shape} model)", loc="left")
    rates.set_ylim(bottom=0)
    waits.set_title("Time to first text, p95, in ms", loc="left")
    waits.set_yscale("log")
    for axes in (rates, waits):
        axes.set_xscale("log", base=2)
        axes.set_xticks(clients, [str(number) for number in clients])
        axes.set_xlabel("clients at once")
    rates.legend(frameon=False)


def _line(axes: Axes, clients: list[int], values: list[Mapping[str, float]], name: str, color: str) -> None:
    axes.plot(clients, [value["median"] for value in values], marker="o", color=color, label=name)
    axes.fill_between(
        clients, [value["least"] for value in values], [value["most"] for value in values], color=color, alpha=0.2
    )


def _engines(part: Mapping[str, Any], shape: str) -> None:
    kinds = {"decode": "Decode, 1 client", "prefill": "Prefill", "clients": f"{part['clients']} clients together"}
    _, panels = plt.subplots(len(kinds), figsize=(6, 4.5), layout="constrained")
    for axes, (kind, title) in zip(panels, kinds.items(), strict=True):
        rates = part["tokens_per_second"][kind]
        _bars(axes, [(side, rates[side], color) for side, color in ENGINES.items()], "{:,.4g}")
        axes.set_title(f"{title} ({shape} model)", loc="left")
    axes.set_xlabel("tokens a second; lines: all runs")


_PICTURES: dict[str, Callable[[Mapping[str, Any], str], None]] = {
    "speed": _speed,
    "threads": _threads,
    "choosing": _choosing,
    "first_token": _first_token,
    "crowd": _crowd,
    "engines": _engines,
}
