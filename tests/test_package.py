"""The package's surface: what it offers, and what importing it costs."""

import subprocess
import sys

import pipeline

HEAVY = (
    "duckdb",
    "pandas",
    "numpy",
    "pyarrow",
    "scipy",
    "statsmodels",
    "matplotlib",
    "mlflow",
    "great_expectations",
    "openlineage",
    "opentelemetry",
    "sqlglot",
    "structlog",
    "jinja2",
    "jsonschema",
    "pydantic",
)


def loaded(code: str) -> set[str]:
    """The top-level modules in a fresh process after `code`."""
    script = f"import sys\n{code}\nprint('loaded:', *sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_the_public_interface_fits_on_a_screen() -> None:
    assert pipeline.__all__ == ["Pipeline", "Schedule", "define", "get_logger", "ingest", "open_runs", "python_step", "read", "run", "sql_step"]


def test_every_public_name_is_there() -> None:
    for name in pipeline.__all__:
        assert getattr(pipeline, name) is not None


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded("import pipeline") & set(HEAVY)


def test_declaring_the_study_loads_no_library_of_data_or_telemetry() -> None:
    light = {"jsonschema", "jinja2", "structlog", "pydantic", "numpy"}
    assert not loaded("from pipeline.study import PIPELINE") & (set(HEAVY) - light)


def test_help_loads_nothing_heavy() -> None:
    code = "from pipeline.cli import main\nsys.argv = ['pipeline', 'run', '--help']\ntry: main()\nexcept SystemExit: pass"
    assert not loaded(code) & (set(HEAVY) - {"pydantic"})  # which typer loads where it is installed
