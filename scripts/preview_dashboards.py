"""Draws a preview of each dashboard from what its panels' queries answer: `python scripts/preview_dashboards.py --run ID`.

Grafana is not asked and does not draw: the pictures show numbers, states and layout, and say on top that they are previews.
The servers have to hold runs (make demo, make obs.up).
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.dates
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from preview_answers import Answer, Series, Servers, columns, rows

from pipeline.stack.dashboard_queries import Choice

ROOT = Path(__file__).resolve().parent.parent
LABEL = "preview drawn from the panels' queries, not Grafana"
# Pixels: a screen's width, Grafana's row with its gap, and the strip on top.
WIDTH, ROW, TOP = 1400, 38, 44
COLORS = {"green": "#37872D", "yellow": "#B58B00", "red": "#C4162A", "dark-red": "#8E0E20", "purple": "#7B2FA0", "text": "#24292E", "blue": "#1F60C4"}
MUTED, LINE = "#6E7681", "#D8DCE2"
CYCLE = ["#1F60C4", "#37872D", "#C4162A", "#B58B00", "#7B2FA0", "#0A8F8F", "#B4541A", "#5A6472", "#A3337B"]
Drawing = Callable[[Axes, Mapping[str, Any], Answer], None]


def color(name: str) -> str:
    """Grafana's word for a colour as one of ours."""
    return name if name.startswith("#") else COLORS[name]


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """A number with its unit, about as Grafana writes it."""
    if unit == "percentunit":
        return f"{100 * value:.4g} %" if decimals is None else f"{100 * value:.{decimals}f} %"
    if unit == "dtdurations":
        return _duration(abs(value)) + (" ago" if value < 0 else "")
    if unit == "s":
        return f"{value / 60:.3g} min" if value >= 60 else (f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms")
    if unit == "bytes":
        for factor, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if value >= factor:
                return f"{value / factor:.3g} {name}"
        return f"{value:.0f} B"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def _duration(seconds: float) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            return f"{int(seconds // size)} {name}" + ("s" if seconds >= 2 * size else "")
    return "0 seconds"


def look(config: Mapping[str, Any], value: str) -> tuple[str, str]:
    """What a value is shown as, and its colour: by its words, else by its unit and limits."""
    for mapping in config.get("mappings", []):
        if mapping["type"] == "value" and value in mapping["options"]:
            found = mapping["options"][value]
            return found["text"], color(found.get("color", "text"))
        if mapping["type"] == "regex" and value:
            return mapping["options"]["result"]["text"], COLORS["blue"]
    try:
        number = float(value)
    except ValueError:
        return value, COLORS["text"]
    steps = config.get("thresholds", {}).get("steps", [])
    passed = [step["color"] for step in steps if step["value"] is None or number >= step["value"]]
    return (shown(number, config["unit"], config.get("decimals")) if "unit" in config else value), color(passed[-1] if passed else "text")


def number_text(value: float) -> str:
    """As a mapping's key has it."""
    return str(int(value)) if value == int(value) else str(value)


def draw_stat(axes: Axes, panel: Mapping[str, Any], answer: Answer) -> None:
    """Numbers side by side, as large as there is room."""
    defaults = panel["fieldConfig"]["defaults"]
    if answer.records:
        configs = by_title(panel)
        record = rows(panel, answer)[0]
        cells = [(title, *look({**defaults, **configs.get(title, {})}, record.get(title, ""))) for title in columns(panel)]
    else:
        cells = [(each.name, *look(defaults, number_text(each.last))) for each in answer.series]
    filled = panel["options"]["colorMode"] == "background_solid"
    for index, (name, text, tint) in enumerate(cells):
        left, width = index / len(cells), 1 / len(cells)
        if filled:
            axes.add_patch(Rectangle((left + 0.004, 0), width - 0.008, 1, color=tint, transform=axes.transAxes, linewidth=0))
        size = max(8.0, min(20.0, 230 * width * axes.get_window_extent().width / 1400 * 10 / max(len(text), 4)))
        axes.text(left + width / 2, 0.42, text, ha="center", va="center", fontsize=size, color="white" if filled else tint, weight="bold")
        axes.text(left + width / 2, 0.88, name, ha="center", va="center", fontsize=7, color="white" if filled else MUTED)


def by_title(panel: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings that set a field apart, by its title."""
    return {each["matcher"]["options"]: {entry["id"]: entry["value"] for entry in each["properties"]} for each in panel["fieldConfig"]["overrides"]}


def draw_table(axes: Axes, panel: Mapping[str, Any], answer: Answer) -> None:
    """Rows of text, as many as fit."""
    found, configs = rows(panel, answer), by_title(panel)
    titles = [title for title in columns(panel) if "custom.hideFrom" not in configs.get(title, {})]
    pixels = axes.get_window_extent()
    fixed = {title: configs.get(title, {}).get("custom.width", 0) for title in titles}
    rest = max(60.0, (pixels.width - sum(fixed.values())) / max(1, sum(not width for width in fixed.values())))
    lefts, at = {}, 4.0
    for title in titles:
        lefts[title], at = at, at + (fixed[title] or rest)
    line, fit = 24, int(pixels.height // 24) - 1
    for title in titles:
        axes.text(lefts[title] / pixels.width, 1 - 12 / pixels.height, title, fontsize=7.5, color=MUTED, va="center", weight="bold", clip_on=True)
    for index, row in enumerate(found[:fit]):
        height = 1 - (line * (index + 1.5)) / pixels.height
        for title in titles:
            text, tint = _cell(title, row.get(title, ""), configs.get(title, {}))
            room = int((fixed[title] or rest) / 6.1)
            axes.text(lefts[title] / pixels.width, height, text if len(text) <= room else text[: max(room - 1, 1)] + "…", fontsize=7.5, color=tint, va="center")
    if len(found) > fit:
        axes.text(1, 0, f"{len(found) - fit} more, by scrolling", fontsize=7, color=MUTED, ha="right", va="bottom")


def _cell(title: str, value: str, config: Mapping[str, Any]) -> tuple[str, str]:
    if title in ("When", "Ended") and value.isdigit():
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(int(value) / 1e9)), COLORS["text"]
    text, tint = look(config, value)
    return text, COLORS["blue"] if config.get("links") else tint


def draw_series(axes: Axes, panel: Mapping[str, Any], answer: Answer) -> None:
    """Lines with points, or bars on each other."""
    config, configs = panel["fieldConfig"]["defaults"], by_title(panel)
    bottoms: dict[float, float] = {}
    drawn = [each for each in answer.series if "custom.hideFrom" not in configs.get(each.name, {})]  # what is there for exemplars only
    for index, each in enumerate(drawn):
        tint, times = _tint(panel, each.name) or CYCLE[index % len(CYCLE)], [DATES.date2num(_moment(at)) for at, _ in each.points]
        values = [value for _, value in each.points]
        if config["custom"]["drawStyle"] == "bars":
            axes.bar(times, values, 0.8 if panel.get("interval") == "1d" else 0.25, bottom=[bottoms.get(at, 0) for at in times], color=tint, label=each.name)
            bottoms |= {at: bottoms.get(at, 0) + value for at, value in zip(times, values, strict=True)}
        elif each.name in ("low", "high"):
            axes.plot(times, values, color=MUTED, linewidth=0.8, linestyle=":")
        else:
            axes.plot(times, values, color=tint, linewidth=1, marker="o" if config["custom"]["showPoints"] == "always" else None, markersize=3, label=each.name)
    _band(axes, answer.series)
    _limits(axes, config)
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, config["unit"]))
    _dated(axes)
    longest = max((len(label) for label in axes.get_legend_handles_labels()[1]), default=0)
    columns_of_legend = max(1, int(axes.get_window_extent().width // max(120, 22 + 4.2 * longest)))
    axes.legend(fontsize=6, ncols=columns_of_legend, loc="upper left", bbox_to_anchor=(-0.08, -0.1), frameon=False, handlelength=1, columnspacing=0.8)


def _tint(panel: Mapping[str, Any], name: str) -> str | None:
    """A colour of its own."""
    for each in panel["fieldConfig"]["overrides"]:
        if each["matcher"]["id"] == "byRegexp" and re.search(each["matcher"]["options"].strip("/"), name):
            return color(each["properties"][0]["value"]["fixedColor"])
    return None


def _limits(axes: Axes, config: Mapping[str, Any]) -> None:
    """Dashed lines at limits that are not far above the numbers."""
    for step in config["thresholds"]["steps"][1:] if config["custom"]["thresholdsStyle"]["mode"] == "dashed" else []:
        low, high = axes.get_ylim()
        if step["value"] <= 1.3 * high:
            axes.axhline(step["value"], color=color(step["color"]), linestyle="--", linewidth=0.8)
            axes.set_ylim(low, max(high, 1.05 * step["value"]))


def _band(axes: Axes, series: list[Series]) -> None:
    named = {each.name: each for each in series}
    if {"low", "high"} <= named.keys():
        times = [DATES.date2num(_moment(at)) for at, _ in named["low"].points]
        axes.fill_between(times, [value for _, value in named["low"].points], [value for _, value in named["high"].points], color=CYCLE[0], alpha=0.12)


def _moment(seconds: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)


def _dated(axes: Axes) -> None:
    locator = DATES.AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(DATES.ConciseDateFormatter(locator))
    axes.tick_params(labelsize=7, colors=MUTED, length=2)
    axes.xaxis.get_offset_text().set_fontsize(7)
    axes.set_axisbelow(True)
    axes.grid(color=LINE, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_timeline(axes: Axes, panel: Mapping[str, Any], answer: Answer) -> None:
    """A bar for each state, until the next one or the longest gap."""
    config = panel["fieldConfig"]["defaults"]
    gap = config["custom"]["spanNulls"] / 86_400_000
    for index, each in enumerate(answer.series):
        times = [DATES.date2num(_moment(at)) for at, _ in each.points]
        for number, (at, (_, value)) in enumerate(zip(times, each.points, strict=True)):
            until = times[number + 1] if number + 1 < len(times) and times[number + 1] - at <= gap else at + 0.05
            axes.barh(index, until - at, left=at, height=0.75, color=look(config, number_text(value))[1], edgecolor="white", linewidth=0.8)
    axes.set_yticks(range(len(answer.series)), [each.name for each in answer.series])
    axes.set_ylim(-0.6, len(answer.series) - 0.4)
    _dated(axes)


def draw_bars(axes: Axes, panel: Mapping[str, Any], answer: Answer) -> None:
    """A bar for each series."""
    config = panel["fieldConfig"]["defaults"]
    for index, each in enumerate(reversed(answer.series)):
        text, tint = look(config, str(each.last))
        axes.barh(index, each.last, color=tint, height=0.6)
        axes.text(each.last, index, f" {text}", va="center", fontsize=7.5, color=tint)
    axes.set_yticks(range(len(answer.series)), [each.name for each in reversed(answer.series)])
    axes.set_xticks([])
    axes.margins(x=0.15)
    axes.tick_params(labelsize=7, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_trace(axes: Axes, panel: Mapping[str, Any], answer: Answer) -> None:
    """A waterfall."""
    del panel
    spans = sorted(answer.spans, key=lambda span: span["startTime"])[:24]
    first = spans[0]["startTime"]
    for index, span in enumerate(spans):
        start, took = (span["startTime"] - first) / 1e6, span["duration"] / 1e6
        axes.barh(-index, max(took, 0.02), left=start, height=0.6, color=CYCLE[0 if not span["references"] else 5])
        axes.text(start + max(took, 0.02), -index, f" {shown(took, 's')}", va="center", fontsize=6.5, color=MUTED)
    axes.set_yticks([-index for index in range(len(spans))], [span["operationName"] for span in spans])
    axes.xaxis.set_major_formatter(lambda value, _: shown(value, "s") if value else "0")
    axes.tick_params(labelsize=7, length=0, colors=MUTED)
    axes.grid(axis="x", color=LINE, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_logs(axes: Axes, panel: Mapping[str, Any], answer: Answer) -> None:
    """Log lines, oldest first."""
    del panel
    pixels = axes.get_window_extent()
    fit = int(pixels.height // 18)
    for index, record in enumerate(reversed(answer.records[-fit:])):
        tint = {"error": COLORS["red"], "warn": COLORS["yellow"], "warning": COLORS["yellow"]}.get(record.get("detected_level", ""), COLORS["text"])
        at = time.strftime("%H:%M:%S", time.gmtime(int(record["Time"]) / 1e9))
        text = f"{at}  {record['Line']}"
        axes.text(0.003, 1 - (index + 0.5) * 18 / pixels.height, text[: int(pixels.width / 5.6)], fontsize=7, color=tint, va="center", family="monospace")


DRAW: dict[str, Drawing] = {
    "stat": draw_stat,
    "table": draw_table,
    "timeseries": draw_series,
    "state-timeline": draw_timeline,
    "bargauge": draw_bars,
    "traces": draw_trace,
    "logs": draw_logs,
}
# matplotlib types none of it.
DATES: Any = matplotlib.dates
GRAPHS = ("timeseries", "state-timeline", "bargauge", "traces")


def draw(dashboard: Mapping[str, Any], servers: Servers, choice: Choice, terms: list[str], path: Path) -> None:
    """One dashboard into one picture."""
    height = TOP + ROW * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) + 8
    figure = plt.figure(figsize=(WIDTH / 100, height / 100), dpi=100, facecolor="#F4F5F7")
    figure.text(12 / WIDTH, 1 - 22 / height, dashboard["title"], fontsize=13, weight="bold", va="center", color=COLORS["text"])
    figure.text(1 - 12 / WIDTH, 1 - 22 / height, LABEL, fontsize=9, va="center", ha="right", color=COLORS["red"])
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            figure.text(14 / WIDTH, 1 - (TOP + ROW * (panel["gridPos"]["y"] + 0.5)) / height, panel["title"], fontsize=10, va="center", color=COLORS["text"])
        for copy, term in enumerate(terms[:3] if panel.get("repeat") else [""]):
            if panel["type"] != "row":
                _draw_panel(figure, panel, height, servers, _with_term(choice, term), copy)
    figure.savefig(path)
    plt.close(figure)


def _with_term(choice: Choice, term: str) -> Choice:
    return Choice(start=choice.start, end=choice.end, values={**choice.values, "term": term}) if term else choice


def _draw_panel(figure: Any, panel: Mapping[str, Any], height: float, servers: Servers, choice: Choice, copy: int) -> None:
    place = panel["gridPos"]
    unit = (WIDTH - 16) / 24
    left, top = 8 + unit * (place["x"] + copy * place["w"]), TOP + ROW * place["y"]
    width, tall = unit * place["w"] - 8, ROW * place["h"] - 8
    figure.add_artist(
        Rectangle(
            (left / WIDTH, 1 - (top + tall) / height), width / WIDTH, tall / height, facecolor="white", edgecolor=LINE, transform=figure.transFigure, zorder=-1
        )
    )
    title = textwrap.shorten(choice.fill(panel["title"]), int(width / 6.6), placeholder="…")
    figure.text((left + 8) / WIDTH, 1 - (top + 14) / height, title, fontsize=8.5, weight="bold", va="center", color=COLORS["text"])
    margin_left, margin_bottom = (_label_width(panel), 46 if panel["type"] == "timeseries" else 22) if panel["type"] in GRAPHS else (8, 8)
    box = (left + margin_left, 1 - (top + tall - margin_bottom) / height, width - margin_left - 10, tall - margin_bottom - 28)
    axes = figure.add_axes((box[0] / WIDTH, box[1], box[2] / WIDTH, box[3] / height))
    answer = servers.ask(panel, choice)
    if panel["type"] not in GRAPHS:
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    if answer.series or answer.records or answer.spans:
        if panel["type"] in ("timeseries", "state-timeline"):
            axes.set_xlim(DATES.date2num(_moment(choice.start)), DATES.date2num(_moment(choice.end)))
        DRAW[panel["type"]](axes, panel, answer)
    else:
        axes.set_axis_off()
        axes.text(0.5, 0.5, panel["fieldConfig"]["defaults"]["noValue"], transform=axes.transAxes, ha="center", va="center", fontsize=8, color=MUTED, wrap=True)


def _label_width(panel: Mapping[str, Any]) -> int:
    return {"timeseries": 60, "state-timeline": 100, "bargauge": 110, "traces": 150}[panel["type"]]


def main() -> None:
    """Draw every dashboard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, port in (("prometheus", 9090), ("loki", 3100), ("jaeger", 16686)):
        parser.add_argument(f"--{name}", default=f"http://127.0.0.1:{port}", metavar="URL")
    parser.add_argument("--pipeline", default="potato")
    parser.add_argument("--environment", default="demo")
    parser.add_argument("--model", default="fixed_effects")
    parser.add_argument("--terms", nargs="+", default=["fiber_g_week", "calories_week", "beans_week"])
    parser.add_argument("--run", required=True, metavar="ID", help="the run of the dashboard about one run")
    parser.add_argument("--stack-minutes", type=int, default=24 * 60, help="how long the stack has been up: the range of its dashboard")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    given = parser.parse_args()
    servers = Servers(prometheus=given.prometheus, loki=given.loki, jaeger=given.jaeger)
    values = {"pipeline": given.pipeline, "environment": given.environment, "run": given.run, "trace": given.run.replace("-", ""), "model": given.model}
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        dashboard, end = json.loads(path.read_text(encoding="utf-8")), time.time()
        minutes = given.stack_minutes if path.stem == "stack" else 24 * 60 * int(dashboard["time"]["from"].removeprefix("now-").removesuffix("d"))
        choice = Choice(start=end - minutes * 60, end=end, values={**values, "term": given.terms[0]})
        picture = given.out / f"preview-{path.stem}.png"
        draw(dashboard, servers, choice, given.terms, picture)
        print(f"drew {picture}")


if __name__ == "__main__":
    main()
