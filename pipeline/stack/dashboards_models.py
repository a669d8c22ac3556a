"""What the models say, and how their estimates moved: each coefficient with its confidence interval, run by run."""

from __future__ import annotations

from pipeline import names
from pipeline.stack.dashboards import Dashboard, Line, choices, labels_of
from pipeline.stack.dashboards_run import estimates
from pipeline.stack.links import Addresses
from pipeline.stack.panels import GREEN, PLAIN, RED, Panel, Scale, Words, override, series, stat
from pipeline.stack.queries import BY_PIPELINE, last, now, of_run, of_runs, over_time

MODEL, TERM = names.MODEL.name, names.TERM.name
NO_MODELS = "No model was fitted in this range"
# One model, and terms of which several may be chosen: Grafana hands those over as regular expressions, even one alone.
CHOSEN_MODEL = f'{MODEL}="$model"'
CHOSEN_TERM = f'{TERM}=~"$term"'


def build(addresses: Addresses) -> Dashboard:
    """The dashboard. One pipeline and one environment at a time: estimates of two don't belong in one curve."""
    model = labels_of(names.MODEL_ESTIMATE, names.MODEL, several=False)
    term = labels_of(names.MODEL_ESTIMATE, names.TERM, CHOSEN_MODEL, several=True)
    table = estimates("What did this model say, newest run first?", addresses, f'{of_run(names.MODEL_NAME)}="$model"', dated=True)
    return Dashboard(
        name="models",
        title="Goldtrace · Models",
        description="What the models estimate, and how it moved from run to run. What goes together, not what causes what.",
        days=30,
        variables=(*choices(several=False), model, term),
        one_value=True,
        parts=(
            Line(height=4, panels=((12, _converged()), (12, _crossing()))),
            Line(height=8, panels=((8, _estimate()),)),
            Line(height=9, panels=((24, table),)),
        ),
    )


def _converged() -> Panel:
    words = Words(
        title="Did every fit converge?",
        description="For each model, whether all its terms came from a fit that converged, when it was fitted last.",
        empty=NO_MODELS,
    )
    scale = Scale(unit="none", steps=((None, RED), (1, GREEN)), words={"0": ("No", RED), "1": ("Yes", GREEN)})
    return stat(words, [now(f"min by ({BY_PIPELINE}, {MODEL}) ({last(names.MODEL_CONVERGED)})", f"{{{{{MODEL}}}}}")], scale)


def _crossing() -> Panel:
    low, high = last(names.MODEL_CI_LOW, CHOSEN_MODEL), last(names.MODEL_CI_HIGH, CHOSEN_MODEL)
    words = Words(
        title="For how many terms does the interval leave out zero?",
        description="Terms of the chosen model whose 95 % interval lies wholly above or below zero, when it was fitted last. It is a count, not a verdict.",
        empty=NO_MODELS,
    )
    expr = f"count({low} > 0 or {high} < 0) or 0 * count({low})"
    return stat(words, [now(expr, "$model")], Scale(unit="none", decimals=0), filled=False)


def _estimate() -> Panel:
    words = Words(
        title="How did $term move in $model?",
        description="The coefficient of each run, with its 95 % interval as a band. A change of sign or a wider band is worth a look at the run's data.",
        empty=NO_MODELS,
    )
    labels = f"{CHOSEN_MODEL},{CHOSEN_TERM}"
    bounds = ((names.MODEL_CI_HIGH, "high"), (names.MODEL_CI_LOW, "low"), (names.MODEL_ESTIMATE, "estimate"))
    panel = series(words, [over_time(of_runs(metric, labels), legend) for metric, legend in bounds], Scale(unit="none", steps=PLAIN))
    return panel.repeated("term").with_overrides(
        override("high", custom_fillBelowTo="low", custom_fillOpacity=20, custom_lineWidth=0, custom_showPoints="never"),
        override("low", custom_lineWidth=0, custom_showPoints="never"),
    )
