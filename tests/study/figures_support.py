"""Tables to draw, and the plots of them; apart from the tests so that another process can draw them without what tests import."""

import numpy as np
import pandas as pd

from pipeline.study.figures import draw_figures
from tests.study.frame_table import FrameTable


def study(subjects=30, weeks=8, seed=0):
    """Trajectories with missing weights."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame([(f"anna-{subject:03d}", week) for subject in range(subjects) for week in range(1, weeks + 1)], columns=["subject_id", "week"])
    frame["weight_kg"] = np.where(random.random(len(frame)) < 0.15, np.nan, 70 + random.normal(size=len(frame)))
    frame["delta_from_baseline_kg"] = frame.weight_kg - 70
    frame["delta_kg_next"] = frame.groupby("subject_id").weight_kg.diff().groupby(frame.subject_id).shift(-1)
    frame["fiber_g_week"] = random.gamma(18, 9.5, len(frame))
    return frame


def estimates(**changes):
    rows = [
        (model, term) for model in ("ols_cluster", "fixed_effects", "mixed_effects") for term in ("fiber_g_week", "calories_week", "beans_week", "potato_week")
    ]
    frame = pd.DataFrame(rows, columns=["model", "term"]).assign(estimate=-0.016, ci_low=-0.033, ci_high=0.001)
    return frame.assign(**changes)


def drawn(frame, models=None):
    modeling = frame.dropna(subset="delta_kg_next")
    return draw_figures(
        models=FrameTable(estimates() if models is None else models, "models"),
        modeling_dataset=FrameTable(modeling, "modeling_dataset"),
        subject_trajectories=FrameTable(frame, "subject_trajectories"),
    )
