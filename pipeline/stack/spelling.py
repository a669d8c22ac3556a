"""How Prometheus and Loki spell the names of `names.py`.

Prometheus is told `translation_strategy: UnderscoreEscapingWithSuffixes`: dots become underscores, the unit is written out at
the end unless the name has it, and a counter ends in `_total`. Tested against a real Prometheus.
"""

import re
from typing import Final

from pipeline import names

# UCUM's units as Prometheus writes them. One in braces is an annotation, and left out.
UNITS: Final = {"s": "seconds", "By": "bytes", "": ""}


def metric(instrument: names.Metric) -> str:
    """The name in Prometheus: of a histogram without `_bucket`, `_sum` and `_count`.

    Raises:
        KeyError: a unit that nothing has had so far.
    """
    words = re.split(r"[^A-Za-z0-9]+", instrument.name)
    unit = UNITS[re.sub(r"\{.*\}", "", instrument.unit)]
    if unit and unit not in words:
        words.append(unit)
    if instrument.kind == "counter":
        words = [word for word in words if word != "total"] + ["total"]
    return "_".join(words)


def series(instrument: names.Metric) -> tuple[str, ...]:
    """The names of all series that an instrument makes in Prometheus."""
    name = metric(instrument)
    return tuple(f"{name}_{part}" for part in ("bucket", "sum", "count")) if instrument.kind == "histogram" else (name,)


def label(name: str) -> str:
    """The name of a label in Prometheus, and of a label or structured metadata in Loki."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


# Every series and every log line has these: the pipeline's name, and the deployment's.
NAMESPACE: Final = label(names.SERVICE_NAMESPACE.name)
ENVIRONMENT: Final = label(names.ENVIRONMENT.name)
