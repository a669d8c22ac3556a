"""What the engine's tests share beside fixtures."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from pipeline.records import Run

Go = Callable[..., Run]
Start = Callable[..., "subprocess.Popen[str]"]


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def write_source(app: Path, name: str, value: str, rows: list[tuple[object, ...]]) -> None:
    """One input file of the small pipeline."""
    (app / "input").mkdir(exist_ok=True)
    (app / "input" / f"{name}.csv").write_text(f"subject_id,week,{value}\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
