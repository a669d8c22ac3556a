"""The floor: DuckDB reads the same CSV files and writes them as Parquet. With `silver`, it also runs the study's transforms on them.

    python bench/floor.py INPUT OUT [silver]
"""

import sys
from pathlib import Path

import duckdb

from pipeline.study import PIPELINE

STEPS = ("traject", "features", "modeling")


def main() -> None:
    """Write the tables; nothing of the project but its SQL and contracts is used."""
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(config={"memory_limit": "700MB", "temp_directory": str(out / "spill"), "preserve_insertion_order": True})
    silver = sys.argv[3:] == ["silver"]
    for contract in (contract for contract in PIPELINE.contracts.values() if contract.pattern):
        path = next(source.glob(contract.pattern))
        name = contract.dataset.split("/")[1]
        connection.execute(f"COPY (FROM read_csv('{path}')) TO '{out}/{name}.parquet'")
        if silver:
            columns = ", ".join(f"CAST({c.name} AS {'VARCHAR' if c.type == 'string' else c.type.replace('number', 'DOUBLE').replace('integer', 'BIGINT')}) AS {c.name}" for c in contract.columns)
            connection.execute("CREATE SCHEMA IF NOT EXISTS bronze")
            connection.execute(f"CREATE VIEW bronze.{name} AS SELECT {columns}, file_row_number AS record_number FROM read_parquet('{out}/{name}.parquet', file_row_number=true)")
    if silver:
        _transform(connection, out)


def _transform(connection: duckdb.DuckDBPyConnection, out: Path) -> None:
    connection.execute("CREATE SCHEMA silver; CREATE SCHEMA seed")
    for step in (step for step in PIPELINE.steps if step.name in STEPS):
        for name, path in step.seeds.items():
            connection.execute(f"CREATE OR REPLACE VIEW seed.{name} AS FROM read_csv('{path}', header=true)")
        output = step.outputs[0].split("/")[1]
        connection.execute(f"COPY ({step.sql.read_text().rstrip().rstrip(';')}) TO '{out}/{output}.parquet'")
        connection.execute(f"CREATE VIEW silver.{output} AS FROM '{out}/{output}.parquet'")


if __name__ == "__main__":
    main()
