"""Where the table is: `dynamodb://<table>?region=…&endpoint=…&artifacts=…`, as it stands in `MLFLOW_TRACKING_URI`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from mlflow.exceptions import MlflowException

from pipeline.settings import mask

DEFAULT_TABLE = "cdp-dev-mlflow-backend"
_TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_OPTIONS = ("artifacts", "endpoint", "region")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A table, and where it is. Without a region or an endpoint, the AWS SDK's own settings decide.

    `artifacts` is where experiments keep their files that say nothing else and are made without a server, which would say it.
    """

    table: str
    region: str | None = None
    endpoint: str | None = None
    artifacts: str | None = None

    def __str__(self) -> str:
        """For people: the table, and the place as far as the address names it."""
        place = mask(self.endpoint) if self.endpoint else self.region
        return f"'{self.table}'{f' at {place}' if place else ''}"


def parse_address(uri: str) -> Address:
    """The address in a tracking URI; without a table's name it is the default one.

    Raises:
        MlflowException: `INVALID_PARAMETER_VALUE`, the URI is none of ours, or has an option that there isn't.
    """
    parts = urlsplit(uri)
    table = parts.netloc or DEFAULT_TABLE
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - set(_OPTIONS))
    if parts.scheme != "dynamodb" or not _TABLE_NAME.fullmatch(table) or parts.path.strip("/") or unknown:
        raise MlflowException.invalid_parameter_value(
            f"'{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}' with the options {sorted(options)} is not the address of a table. "
            "hint: dynamodb://<table>?region=<region>&endpoint=<URL>&artifacts=s3://<bucket>/<prefix>"
        )
    return Address(table=table, **{name: value for name, value in options.items() if value})
