"""`delivery.json` of a bundle: what was handed to which server, one entry a signal, each written by whoever delivers that signal."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FILE: Final = "delivery.json"


def read(bundle: Path) -> dict[str, Any]:
    """All entries; none when the file is not there, or is damaged."""
    try:
        known = json.loads((bundle / FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def write(bundle: Path, signal: str, entry: Mapping[str, Any]) -> None:
    """Replace one signal's entry at once, and leave the others' as they are, also when two processes write.

    Raises:
        OSError: it can't be written.
    """
    folder = os.open(bundle, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # for milliseconds: else the second of two puts back what it read before the first wrote
        _replace(bundle / FILE, {**read(bundle), signal: entry})
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    # Not named as a JSON file, so that nobody who looks for those reads half of one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
