from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.records import Run
from pipeline.settings import Settings, load
from pipeline.telemetry.logs import LogsHook, Style
from pipeline.telemetry.setup import hooks_for
from tests.telemetry.telemetry_support import python, tell


def settings(**environ: str) -> Settings:
    return load(environ, Path("no.env"))


def test_all_signals_are_on_and_logs_are_first():
    assert [hook.signal for hook in hooks_for(settings())] == ["logs", "traces", "metrics", "lineage"]


def test_off_leaves_the_terminals_log_and_writes_nothing(run: Run, capsys: pytest.CaptureFixture[str]):
    hooks = hooks_for(settings(PIPELINE_TELEMETRY="off"))
    before = sorted(run.bundle.iterdir())
    tell(run, *hooks)
    assert [hook.signal for hook in hooks] == ["logs"]
    assert sorted(run.bundle.iterdir()) == before
    assert "completed after 2.00 s" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["true", "TRUE", " True "])
def test_a_disabled_sdk_leaves_lineage_and_says_so(value: str, caplog: pytest.LogCaptureFixture):
    assert [hook.signal for hook in hooks_for(settings(OTEL_SDK_DISABLED=value))] == ["logs", "lineage"]
    assert "OTEL_SDK_DISABLED is true" in caplog.text


@pytest.mark.parametrize("value", ["false", "1", "yes"])
def test_any_other_value_does_not_disable_it(value: str):
    assert len(hooks_for(settings(OTEL_SDK_DISABLED=value))) == 4


@pytest.mark.parametrize(
    ("environment", "style"),
    [({}, Style.COLOURED), ({"NO_COLOR": "1"}, Style.MONOCHROME), ({"TERM": "dumb"}, Style.PLAIN), ({"TERM": "xterm"}, Style.COLOURED)],
)
def test_the_terminals_kind_and_the_level_reach_the_log(environment: dict[str, str], style: Style):
    (hook,) = hooks_for(settings(PIPELINE_TELEMETRY="off", PIPELINE_LOG_LEVEL="error", **environment))
    assert isinstance(hook, LogsHook)
    assert (hook._style, hook._terminal.name) == (style, "ERROR")


def test_nothing_heavy_is_imported_before_a_run_begins():
    done = python(
        "import sys, pipeline.telemetry.identity, pipeline.telemetry.bundle, pipeline.telemetry.guard, pipeline.telemetry.reaper\n"
        "import pipeline.telemetry.logs, pipeline.telemetry.setup, pipeline.testing, pipeline.telemetry.privacy\n"
        "print([name for name in ('opentelemetry', 'structlog', 'pandas', 'duckdb', 'jsonschema', 'openlineage') if name in sys.modules])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_without_telemetry_opentelemetry_is_not_imported():
    done = python(
        "import sys, pathlib\n"
        "from pipeline.settings import load\n"
        "from pipeline.telemetry.setup import hooks_for\n"
        "from pipeline.testing import example_run\n"
        "(hook,) = hooks_for(load({'PIPELINE_TELEMETRY': 'off'}))\n"
        "with hook.run(example_run(pathlib.Path('b'))): pass\n"
        "print('opentelemetry' in sys.modules)"
    )
    assert done.stdout == "False\n"
