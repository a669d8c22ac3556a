"""The floor: DuckDB reads the CSV files and writes them as Parquet. With `silver`, the study's SQL files run on that,
and are written as a run writes them.

    python -m bench.floor INPUT OUT [silver]

No record numbers, contracts, checks, hashes and telemetry: only what the results themselves cost.
"""

import sys
from pathlib import Path

import duckdb

from pipeline.engine.duck import SQL_TYPES, literal, write_parquet
from pipeline.records import Contract, StepKind
from pipeline.study import PIPELINE

# What a run may take, too.
THREADS = 2
MEMORY_LIMIT = "800MB"


def main() -> None:
    """Write the tables to a folder, each as one file."""
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    config = {"threads": THREADS, "memory_limit": MEMORY_LIMIT, "temp_directory": str(out / "spill"), "preserve_insertion_order": True}
    connection = duckdb.connect(config=config)
    sources = [contract for contract in PIPELINE.contracts.values() if contract.pattern]
    for contract in sources:
        path = next(source.glob(str(contract.pattern)))
        connection.execute(f"COPY (FROM read_csv({literal(path)})) TO {literal(_file(out, contract.dataset))} (FORMAT parquet)")
    if sys.argv[3:] == ["silver"]:
        connection.execute("CREATE SCHEMA bronze; CREATE SCHEMA silver; CREATE SCHEMA seed")
        for contract in sources:
            connection.execute(_bronze_view(out, contract))
        _transform(connection, out)


def _file(out: Path, dataset: str) -> Path:
    return out / f"{dataset.replace('/', '-')}.parquet"


def _bronze_view(out: Path, contract: Contract) -> str:
    columns = ", ".join(f"CAST({column.name} AS {SQL_TYPES[column.type]}) AS {column.name}" for column in contract.columns)
    read = f"read_parquet({literal(_file(out, contract.dataset))}, file_row_number=true)"
    return f"CREATE VIEW bronze.{contract.dataset.split('/')[1]} AS SELECT {columns}, file_row_number AS record_number FROM {read}"


def _transform(connection: duckdb.DuckDBPyConnection, out: Path) -> None:
    for step in (step for step in PIPELINE.steps if step.kind is StepKind.SQL):
        for name, path in step.seeds.items():
            connection.execute(f"CREATE OR REPLACE VIEW seed.{name} AS FROM read_csv({literal(path)}, header=true)")
        dataset, select = step.outputs[0], step.sql.read_text(encoding="utf-8").rstrip().rstrip(";") if step.sql else ""
        write_parquet(connection, select, _file(out, dataset))
        connection.execute(f"CREATE VIEW {dataset.replace('/', '.')} AS FROM read_parquet({literal(_file(out, dataset))})")


if __name__ == "__main__":
    main()
