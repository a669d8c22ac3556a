"""What a run may still be held up for at its end."""

from pathlib import Path

import pytest

from pipeline import api
from pipeline.settings import DELIVERY_SECONDS
from pipeline.testing import example_run


@pytest.mark.parametrize(
    ("took", "hooks", "left"),
    [(5.0, {"experiments": 0.3, "logs": 0.1}, 1.6), (5.0, {"experiments": 2.0}, 0.0), (1000.0, {"experiments": 2.0}, 19.9), (5.0, {}, 2.0)],
)
def test_what_telemetry_may_still_take_is_what_the_hooks_left_of_its_time(tmp_path: Path, took: float, hooks: dict[str, float], left: float) -> None:
    run = example_run(tmp_path)
    run.telemetry_seconds = hooks
    assert api._left(run, took) == pytest.approx(left)


def test_a_run_hands_what_is_left_to_the_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(api, "_deliver", lambda folder, settings, seconds: asked.append(seconds))
    monkeypatch.setattr(api, "TELEMETRY_SHARE", 0.0)
    run = api.run(until="weight", runs=tmp_path / "runs", lake=str(tmp_path / "lake"), tracking="off")
    assert asked == [pytest.approx(DELIVERY_SECONDS - sum(run.telemetry_seconds.values()))]
    assert asked[0] < DELIVERY_SECONDS
