"""Makes MLflow's table and bucket when they are not there, and becomes MLflow's server (`serve.py WORKERS`).

It looks at every start, as both may be gone when the server comes up again. Where they are, and what else the server is told, is in
the environment: the variables are MLflow's and the AWS SDK's own.
"""

import os
import sys
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.exceptions import MlflowException

from pipeline.tracking.dynamodb.address import parse_address
from pipeline.tracking.dynamodb.table import Wanted, ensure


def make_table(uri: str) -> None:
    """Make the table of that tracking URI; one that is there has to be of the store's form."""
    address = parse_address(uri)
    if ensure(address, Wanted(protected=False, tags={})):
        sys.stdout.write(f"made the table {address.table}\n")


def make_bucket(uri: str) -> None:
    """Make the bucket of that `s3://` address."""
    bucket = urlsplit(uri).netloc
    s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    if bucket not in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=bucket)
        sys.stdout.write(f"made the bucket {bucket}\n")


if __name__ == "__main__":
    try:
        make_table(os.environ["MLFLOW_BACKEND_STORE_URI"])
        make_bucket(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
    except (BotoCoreError, ClientError, MlflowException) as error:
        sys.exit(f"error: {error}\nhint: are DynamoDB and S3 up, and are the keys the ones that they were first started with?")
    # In a container, whose port is published on 127.0.0.1.
    os.execvp("mlflow", ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", sys.argv[1]])  # noqa: S104, S606, S607
