"""What the tests of lineage share: an example run told to the hook, and its events in the words that the tests use."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.records import Run
from pipeline.settings import Settings, load
from pipeline.telemetry import bundle
from pipeline.telemetry.lineage import FILE, LineageHook, close
from pipeline.testing import SECOND
from pipeline.testing import lineage as events

Event = dict[str, Any]
TERMINAL = ("COMPLETE", "FAIL", "ABORT")


def settings(**values: str) -> Settings:
    """The defaults, with some variables set."""
    return load(values, dotenv=Path("no.env"))


def tell(run: Run, told: Settings | None = None) -> list[Event]:
    """Everything that a run is told to have done, as events."""
    hook = LineageHook(told or settings())
    with hook.run(run):
        for step in run.steps:
            with hook.step(run, step):
                pass
    return events(run.bundle)


def kill(run: Run, lines: int | None = None) -> None:
    """Leave the bundle as a run that was killed in its second step: a manifest that says RUNNING, and some lines of lineage."""
    hook = LineageHook(settings())
    with ExitStack() as contexts:
        contexts.enter_context(hook.run(run))
        with hook.step(run, run.steps[0]):
            pass
        contexts.enter_context(hook.step(run, run.steps[1]))
        bundle.write_manifest(run)
        kept = (run.bundle / FILE).read_text()
    (run.bundle / FILE).write_text("".join(kept.splitlines(keepends=True)[:lines]))


def close_lost(run: Run, seconds: float = 2) -> list[Event]:
    """The events after a reaper has closed the bundle, `seconds` after the run's start."""
    close(run.bundle, run.started_ns + int(seconds * SECOND), "the process that ran it is gone")
    return events(run.bundle)


def kinds(told: Iterable[Event]) -> list[str]:
    """`START weight`, `COMPLETE example`: what happened, in the order of the file."""
    return [f"{event['eventType']} {event['job']['name'].removeprefix('example.')}" for event in told]


def find(told: Iterable[Event], kind: str) -> Event:
    """The one event that `kinds` calls so."""
    return next(event for event in told if kinds([event]) == [kind])


def facet(event: Event, name: str, place: str = "run") -> Any:
    return event[place]["facets"].get(name)


def dataset(event: Event, name: str) -> Event:
    """An input or output by its name."""
    return next(each for each in (*event["inputs"], *event["outputs"]) if each["name"] == name)
