"""Where the table is: `dynamodb://<table>?region=…&endpoint=…`, as it stands in `MLFLOW_TRACKING_URI`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from mlflow.exceptions import MlflowException

DEFAULT_TABLE = "cdp-dev-mlflow-backend"
_TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_OPTIONS = ("endpoint", "region")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A table, and where it is. Without a region or an endpoint, the AWS SDK's own settings decide."""

    table: str
    region: str | None = None
    endpoint: str | None = None


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
            "hint: dynamodb://<table>?region=<region>&endpoint=<URL>"
        )
    return Address(table=table, region=options.get("region") or None, endpoint=options.get("endpoint") or None)
