"""Runs that were put into one MLflow store by the real worker, and what the store then says about them."""

import json
import os
import pickle
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.records import DatasetVersion, Estimate, ModelCard, Run, State
from pipeline.settings import Settings
from pipeline.settings import load as load_settings
from pipeline.telemetry import bundle
from pipeline.testing import example_run
from pipeline.tracking.experiments import ExperimentsHook, LostRuns
from pipeline.tracking.record import RunRecord, run_record

READER = Path(__file__).with_name("read_mlflow.py")
X = ["dose", "age"]
SUBJECTS = 12
CARDS = {
    "ols": ModelCard(response="change", errors="clustered by subject (CRV1)", description="All rows together."),
    "within": ModelCard(response="change", errors="clustered by subject (CRV1)", description="Each subject against itself."),
    "mixed": ModelCard(response="change", errors="REML", description="A level for each subject."),
}


@dataclass(frozen=True)
class Fits:
    """Data of made-up subjects, the models' coefficient tables, and what statsmodels says was fitted."""

    data: pd.DataFrame
    estimates: list[Estimate]
    ols_fitted: np.ndarray
    within_fitted: np.ndarray
    mixed_fixed_part: np.ndarray


@pytest.fixture(scope="session")
def fits() -> Fits:
    from statsmodels.regression.linear_model import OLS
    from statsmodels.regression.mixed_linear_model import MixedLM

    random = np.random.default_rng(7)
    subject = np.repeat([f"Subject-Quokka-{number}" for number in range(SUBJECTS)], 9)
    level = np.repeat(random.normal(0, 2, SUBJECTS), 9)
    data = pd.DataFrame({"subject_id": subject, "dose": random.normal(10, 3, len(subject)), "age": random.integers(20, 60, len(subject))})
    change = 1.5 + 0.3 * data["dose"] - 0.05 * data["age"] + level + random.normal(0, 0.5, len(subject))
    exog = data[X].assign(intercept=1.0)[["intercept", *X]]
    groups = data["subject_id"]
    centred = data[X] - data[X].groupby(groups).transform("mean")
    ols, within = OLS(change, exog).fit(), OLS(change - change.groupby(groups).transform("mean"), centred).fit()
    mixed = MixedLM(change, exog, groups=groups).fit(reml=True)
    variances = {"var(subject)": float(mixed.cov_re.iloc[0, 0]), "var(residual)": float(mixed.scale)}
    estimates = [
        *(_estimate("ols", term, value, len(data)) for term, value in ols.params.items()),
        *(_estimate("within", term, value, len(data)) for term, value in within.params.items()),
        *(_estimate("mixed", term, value, len(data)) for term, value in {**mixed.fe_params, **variances}.items()),
        replace(_estimate("unfitted", "intercept", 0.0, len(data)), estimate=None, converged=False, note="no overlap between files"),
    ]
    return Fits(
        data=data,
        estimates=estimates,
        ols_fitted=ols.fittedvalues.to_numpy(),
        within_fitted=within.fittedvalues.to_numpy(),
        mixed_fixed_part=(exog @ mixed.fe_params).to_numpy(),
    )


def _estimate(model: str, term: str, value: float, n_obs: int) -> Estimate:
    return Estimate(
        model=model,
        term=term,
        estimate=float(value),
        std_error=0.5,
        statistic=float(value) / 0.5,
        p_value=0.04,
        ci_low=float(value) - 1.0,
        ci_high=float(value) + 1.0,
        n_obs=n_obs,
        n_subjects=SUBJECTS,
        r_squared=None if model == "mixed" else 0.5,
        converged=True,
        singular=False,
        note="12 clusters: errors are unreliable under 30",
    )


@pytest.fixture(scope="session")
def settings_for() -> Callable[..., Settings]:
    """Settings with a folder of runs and nothing from the machine."""
    return lambda runs, **more: load_settings({}, Path("no.env"), runs=runs, **more)


@pytest.fixture(scope="session")
def modelled(fits: Fits) -> Callable[..., Run]:
    """Makes a run in `runs` whose models are `fits`, with two figures in the lake."""

    def make(runs: Path, number: int) -> Run:
        run = example_run(runs / "unnamed", State.COMPLETED, number=number)
        run.bundle = run.bundle.rename(runs / str(run.id))
        run.pipeline = replace(run.pipeline, figures="gold/figures", models=CARDS)
        run.estimates = fits.estimates
        figures = DatasetVersion(
            dataset="gold/figures", version="f" * 64, path=f"gold/figures/{'f' * 64}", files=("effects.png", "weeks.png"), bytes=8, rows=None
        )
        run.published["gold/figures"] = figures
        folder = runs.parent / "lake" / figures.path
        folder.mkdir(parents=True, exist_ok=True)
        for file in figures.files:
            (folder / file).write_bytes(b"\x89PNG")
        return run

    return make


@dataclass(frozen=True)
class Told:
    """A store with a history (see `told`), and what it says of it, read by MLflow itself."""

    runs: Path
    settings: Settings
    first: Run
    second: Run
    lost: Run
    deliveries: dict[str, dict]
    said: dict

    def of(self, run: Run) -> list[dict]:
        return [said for said in self.said["runs"] if said["tags"]["goldtrace.run_id"] == str(run.id)]

    def parent(self, run: Run) -> dict:
        (parent,) = [said for said in self.of(run) if "goldtrace.model" not in said["tags"]]
        return parent

    def model(self, run: Run, name: str) -> dict:
        (model,) = [said for said in self.of(run) if said["tags"].get("goldtrace.model") == name]
        return model


@pytest.fixture(scope="session")
def told(made_once: Callable[..., Path], fits: Fits, modelled: Callable[..., Run], settings_for: Callable[..., Settings]) -> Told:
    """The history, made once for all of pytest's processes."""

    def fill(folder: Path) -> None:
        (folder / "told.pickle").write_bytes(pickle.dumps(make_history(folder, fits, modelled, settings_for)))

    return pickle.loads((made_once("a place with spaces", fill) / "told.pickle").read_bytes())


def make_history(folder: Path, fits: Fits, modelled: Callable[..., Run], settings_for: Callable[..., Settings]) -> Told:
    """Two runs at the same time in a new store. Then, by one worker, the first again, with a lost one; and the second again as if
    half of it were missing, and then as lost.
    """
    settings = settings_for(folder / "runs", tracking_timeout=60)
    first, second = modelled(settings.runs, 1), modelled(settings.runs, 2)
    side_by_side(lambda: deliver(first, settings, folder / "lake"), lambda: deliver(second, settings, folder / "lake"))
    deliveries = {"first": delivery(first.bundle), "second": delivery(second.bundle)}
    lost = example_run(settings.runs / "unnamed", State.LOST, number=3)
    lost.bundle = lost.bundle.rename(settings.runs / str(lost.id))
    bundle.write_manifest(lost)
    again = run_record(second, settings, folder / "lake")
    taken_along = {folder / "again": again, folder / "then lost": {**again, "state": "LOST", "status": "KILLED"}}
    lost_runs = AndOthers(settings, taken_along)
    lost_runs.close(lost.bundle, lost.ended_ns, "the process that ran it is gone")
    forget_the_end_of(deliveries["second"]["parent_run_id"], settings.runs / "mlflow.db")
    deliver(first, settings, folder / "lake", lost_runs)
    deliveries |= {"first again": delivery(first.bundle), "lost": delivery(lost.bundle)}
    deliveries |= {f"second {place.name}": delivery(place) for place in taken_along}
    table = folder / "data.csv"
    fits.data.to_csv(table, index=False)
    uri = f"sqlite:///{settings.runs}/mlflow.db"
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    program = [sys.executable, "-W", "ignore", str(READER), uri, first.pipeline.name, str(table)]
    said = json.loads(subprocess.run(program, env=environment, check=True, capture_output=True).stdout)
    return Told(settings.runs, settings, first, second, lost, deliveries, said)


class AndOthers(LostRuns):
    """Lost runs, and other records; what becomes of each of those is told in a folder of its own."""

    def __init__(self, settings: Settings, others: dict[Path, RunRecord]) -> None:
        super().__init__(settings)
        self._others = others

    def take(self) -> list[tuple[Path, RunRecord]]:
        for place in self._others:
            place.mkdir()
        return [*super().take(), *self._others.items()]


def side_by_side(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def forget_the_end_of(parent_run_id: str, database: Path) -> None:
    """What a worker leaves that was killed before it was done: a run without the last tag."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM tags WHERE key = 'goldtrace.delivered' AND run_uuid = ?", (parent_run_id,))


def deliver(run: Run, settings: Settings, lake: Path, lost: LostRuns | None = None) -> None:
    with ExperimentsHook(settings, lake, lost).run(run):
        pass


def delivery(folder: Path) -> dict:
    return json.loads((folder / "delivery.json").read_text())["experiments"]


@pytest.fixture
def ended(tmp_path: Path) -> Run:
    """A small run that has ended, with nothing to log but itself."""
    return example_run(tmp_path / "runs" / "run", State.FAILED)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://user:opensesame@127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="session")
def ready_store(study_run: Path) -> Callable[[Path], None]:
    """Puts a ready store's file into a folder of runs, which is quicker than making one."""

    def copy(runs: Path) -> None:
        runs.mkdir(parents=True, exist_ok=True)
        shutil.copy(study_run / "runs" / "mlflow.db", runs / "mlflow.db")

    return copy
