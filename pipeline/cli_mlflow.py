"""The commands `pipeline mlflow table …`: make and look at the DynamoDB table that MLflow's runs may be kept in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import BackendError, UsageError

if TYPE_CHECKING:
    from pipeline.tracking.dynamodb.address import Address
    from pipeline.tracking.dynamodb.table import Finding

app = typer.Typer(help="Look after what MLflow's runs are kept in.", no_args_is_help=True, rich_markup_mode=None)
table_app = typer.Typer(help="Make and check the DynamoDB table of MLflow's runs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(table_app, name="table")

DEFAULT = "dynamodb://cdp-dev-mlflow-backend"
AddressArgument = Annotated[
    str | None,
    typer.Argument(metavar="ADDRESS", help="dynamodb://<table>?region=…&endpoint=…", show_default=f"MLFLOW_TRACKING_URI when it is such a one, else {DEFAULT}"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_TAGS = ("application=goldtrace",)
_NOT_INSTALLED = "boto3 is not installed"


@table_app.command(
    epilog="Examples: pipeline mlflow table create · pipeline mlflow table create 'dynamodb://runs?region=eu-central-1' --tag team=study"
    " · pipeline mlflow table create 'dynamodb://runs?region=local&endpoint=http://127.0.0.1:8000' --no-deletion-protection"
)
def create(
    address: AddressArgument = None,
    deletion_protection: Annotated[bool, typer.Option(help="Let nobody delete the table before this is turned off.")] = True,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag of the table.", show_default=", ".join(_TAGS))] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the table: billed on demand, with point-in-time recovery. One that is there is looked at, and left as it is."""
    tags = dict(_tag(text) for text in (_TAGS if tag is None else tag))
    with _errors():
        from pipeline.tracking.dynamodb.table import Wanted, look
        from pipeline.tracking.dynamodb.table import create as make

        place = _address(address)
        made = make(place, Wanted(protected=deletion_protection, tags=tags))
        found = look(place, permissions=False)
    if not as_json:
        typer.echo(f"the table {place} {'was made' if made else 'was there already'}")
    _end(place, found, as_json, made=made)


@table_app.command(epilog="Examples: pipeline mlflow table check · pipeline mlflow table check 'dynamodb://runs?region=eu-central-1' --json")
def check(address: AddressArgument = None, as_json: JsonOption = False) -> None:
    """See whether the table is as the store needs it, and whether one may use it; nothing is changed. Exit code 1 when something is off."""
    with _errors():
        from pipeline.tracking.dynamodb.table import look

        place = _address(address)
        found = look(place)
    _end(place, found, as_json)


def _tag(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise typer.BadParameter(f"{text!r} is no KEY=VALUE")
    return key, value


def _address(text: str | None) -> Address:
    from mlflow.exceptions import MlflowException

    from pipeline.settings import load
    from pipeline.tracking.dynamodb.address import parse_address

    known = load().mlflow_tracking_uri or ""
    try:
        return parse_address(text or (known if known.startswith("dynamodb:") else DEFAULT))
    except MlflowException as error:
        message, _, hint = error.message.partition(" hint: ")
        raise UsageError(message.rstrip(". "), hint=hint) from error


@contextmanager
def _errors() -> Iterator[None]:
    """What the store's modules say, as this command's errors. MLflow is imported first: it imports the store itself then."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        message, _, hint = error.message.partition(". hint: ")
        if message.startswith(_NOT_INSTALLED):
            raise UsageError(message, hint="make setup.aws, or pip install 'goldtrace[aws]'") from error
        raise BackendError(message, hint=hint or "see docs/mlflow.md") from error


def _end(place: Address, found: list[Finding], as_json: bool, *, made: bool | None = None) -> None:
    off = [finding for finding in found if finding.word == "bad"]
    if as_json:
        points = [{"about": each.about, "state": each.word.value, "detail": each.detail, "hint": each.hint} for each in found]
        news = {} if made is None else {"made": made}
        typer.echo(json.dumps({"table": place.table, "region": place.region, "well": not off, **news, "findings": points}, indent=2))
    else:
        for each in found:
            typer.echo(f"  {each.word.value:<8}{each.about}: {each.detail}")
            if each.hint:
                typer.echo(f"          hint: {each.hint}")
        typer.echo(f"{len(off)} points are off" if len(off) > 1 else "1 point is off" if off else "it is well")
    raise typer.Exit(1 if off else 0)
