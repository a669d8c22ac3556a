from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import Run, State, StepKind
from pipeline.report.facts import Facts, StepFacts, read_facts
from pipeline.report.forest import panels
from pipeline.report.graph import Box, Graph, draw
from pipeline.report.waterfall import ticks, waterfall
from tests.report.report_support import estimates, study_run, write_bundle

MakeBundle = Callable[..., Path]
LAYERS = ("bronze", "silver", "gold")


def step(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> StepFacts:
    return StepFacts(name=name, kind=StepKind.SQL, inputs=tuple(inputs), outputs=tuple(outputs), rows_in={}, rows_out={}, rows_quarantined={})


@pytest.fixture(scope="module")
def some_facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return read_facts(write_bundle(study_run(tmp_path_factory.mktemp("runs") / "run")))


@st.composite
def step_lists(draw_one: st.DrawFn) -> list[StepFacts]:
    """Up to 30 steps over the layers, each reading from what comes before it."""
    known = [f"input/source{number}" for number in range(draw_one(st.integers(1, 5)))]
    steps = []
    for number in range(draw_one(st.integers(1, 30))):
        layer = LAYERS[min(2, number * 3 // 30)]
        inputs = draw_one(st.lists(st.sampled_from(known), min_size=1, max_size=4, unique=True))
        outputs = [f"{layer}/table{number}_{part}" for part in range(draw_one(st.integers(1, 3)))]
        steps.append(step(f"step{number}", inputs, outputs))
        known += outputs
    return steps


def overlap(graph: Graph, one: Box, other: Box) -> bool:
    apart = one.x + graph.box_width <= other.x or other.x + graph.box_width <= one.x
    return not apart and one.y < other.y + other.height and other.y < one.y + one.height


# ---------------------------------------------------------------------------------------------- the graph


@settings(max_examples=30)
@given(steps=step_lists())
def test_no_two_boxes_overlap_and_all_are_inside(some_facts: Facts, steps: list[StepFacts]) -> None:
    graph = draw(replace(some_facts, steps=tuple(steps)))
    assert not [pair for pair in combinations(graph.boxes, 2) if overlap(graph, *pair)]
    assert all(0 <= box.x <= graph.width - graph.box_width and 0 <= box.y <= graph.height - box.height for box in graph.boxes)


@settings(max_examples=30)
@given(steps=step_lists())
def test_every_reader_stands_to_the_right_of_what_it_reads(some_facts: Facts, steps: list[StepFacts]) -> None:
    graph = draw(replace(some_facts, steps=tuple(steps)))
    home = {port.dataset: box for box in graph.boxes for port in box.ports}
    assert all(home[name].x < box.x for box in graph.boxes if box.step for name in box.step.inputs)
    assert {(edge.dataset, name) for edge in graph.edges for name in edge.steps} == {(name, one.name) for one in steps for name in one.inputs}


@settings(max_examples=30)
@given(steps=step_lists())
def test_layers_follow_each_other_in_bands_that_fill_the_width(some_facts: Facts, steps: list[StepFacts]) -> None:
    graph = draw(replace(some_facts, steps=tuple(steps)))
    order = [band.layer for band in graph.bands]
    assert order == [layer for layer in ("input", *LAYERS) if layer in order]
    assert sum(band.width for band in graph.bands) == pytest.approx(graph.width, abs=0.2)


def test_the_studys_graph_fits_the_page_without_crossing_a_box(some_facts: Facts) -> None:
    graph = draw(some_facts)
    assert graph.width <= 1176
    assert [(band.layer, round(band.width / graph.width, 1)) for band in graph.bands] == [("input", 0.2), ("bronze", 0.2), ("silver", 0.3), ("gold", 0.3)]


def test_a_long_edge_takes_a_lane_of_its_own_past_the_boxes_between(some_facts: Facts) -> None:
    graph = draw(some_facts)
    stretches = [edge for edge in graph.edges if edge.dataset == "bronze/fiber" and "figures" in edge.steps]
    assert len(stretches) == 4
    assert [edge.ends for edge in stretches].count(True) == 1


def test_the_same_run_is_always_drawn_the_same(some_facts: Facts) -> None:
    assert draw(some_facts) == draw(some_facts)


def test_a_run_without_steps_has_an_empty_graph(some_facts: Facts) -> None:
    graph = draw(replace(some_facts, steps=()))
    assert (graph.boxes, graph.edges, graph.bands) == ((), (), ())


def test_steps_that_were_not_reached_are_drawn_after_a_failure(make_bundle: MakeBundle) -> None:
    graph = draw(read_facts(make_bundle(State.FAILED, None)))
    assert {box.step.name for box in graph.boxes if box.step and box.step.state is None} == {"reports", "figures"}


# ---------------------------------------------------------------------------------------------- the waterfall


def test_bars_stand_where_their_time_is(some_facts: Facts) -> None:
    fall = waterfall(some_facts)
    models = next(track for track in fall.tracks if track.name == "models")
    assert models.bar
    assert (models.bar.left, models.bar.width) == pytest.approx((100 * 1.860 / 4.203, 100 * 1.420 / 4.203), abs=0.01)
    assert [track.name for track in fall.tracks][:2] == ["inspect", "weight"]
    assert fall.tones == ("read", "compute", "write", "check")


@given(share=st.floats(0, 1), length=st.floats(0, 1))
def test_no_bar_leaves_the_axis_or_is_too_thin_to_see(some_facts: Facts, share: float, length: float) -> None:
    one = replace(some_facts.steps[0], start=share * 4, seconds=length)
    fall = waterfall(replace(some_facts, steps=(one,), phases=()))
    bar = fall.tracks[0].bar
    assert bar
    assert bar.width >= 0.5
    assert 0 <= bar.left <= 100 - bar.width + 1e-6


def test_a_step_without_an_end_reaches_to_the_last_sign_of_life(make_run: Callable[..., Run]) -> None:
    run = make_run(State.LOST, None)
    run.steps[-1].ended_ns = run.ended_ns = None
    fall = waterfall(read_facts(write_bundle(run)))
    models = next(track for track in fall.tracks if track.name == "models")
    assert models.words.endswith("has no end on record")
    assert models.bar
    assert models.bar.left + models.bar.width == pytest.approx(100)


@pytest.mark.parametrize(
    ("total", "labels"),
    [
        (0.012, ["0", "2 ms", "4 ms", "6 ms", "8 ms", "10 ms", "12 ms"]),
        (2.7, ["0", "0.5 s", "1.0 s", "1.5 s", "2.0 s", "2.5 s"]),
        (4.2, ["0", "1 s", "2 s", "3 s", "4 s"]),
        (400, ["0", "2 min", "4 min", "6 min"]),
        (7300, ["0", "30 min", "60 min", "90 min", "120 min"]),
    ],
)
def test_the_time_axis_has_round_marks(total: float, labels: list[str]) -> None:
    assert [tick.label for tick in ticks(total)] == labels


@given(total=st.floats(1e-3, 1e6))
def test_the_time_axis_has_few_marks_within_it(total: float) -> None:
    marks = ticks(total)
    assert 1 <= len(marks) <= 8
    assert all(0 <= mark.at <= 100 for mark in marks)


# ---------------------------------------------------------------------------------------------- the coefficients


def test_each_term_has_a_panel_with_the_headline_first_and_the_intercept_last() -> None:
    found = panels(estimates(), "fiber_g_week")
    assert [panel.term for panel in found] == ["fiber_g_week", "calories_week", "beans_week", "potato_week", "intercept"]
    assert [mark.model for mark in found[0].marks] == ["ols_cluster", "fixed_effects", "mixed_effects"]


def test_a_mark_is_clear_when_zero_is_outside_its_interval() -> None:
    by_term = {panel.term: panel for panel in panels(estimates())}
    assert all(mark.clear and mark.high < by_term["calories_week"].zero for mark in by_term["calories_week"].marks)
    assert not any(mark.clear for mark in by_term["fiber_g_week"].marks)


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-9, 1e6))
def test_every_panel_has_zero_on_it_and_holds_its_marks(low: float, width: float) -> None:
    one = replace(estimates()[1], estimate=low + width / 2, std_error=width / 4, ci_low=low, ci_high=low + width)
    (panel,) = panels([one])
    (mark,) = panel.marks
    assert 0 < mark.low <= mark.mid <= mark.high < 100
    assert 0 < panel.zero < 100
    assert 1 <= len(panel.ticks) <= 8
    assert any(tick.label == "0" for tick in panel.ticks)


@pytest.mark.parametrize("missing", ["estimate", "ci_low", "ci_high"])
def test_an_estimate_without_an_interval_is_left_to_the_table(missing: str) -> None:
    assert panels([replace(estimates()[0], **{missing: None})]) == ()
