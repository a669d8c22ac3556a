"""The one module of the engine that knows boto3: who we are to S3 and where it is, as every AWS tool finds it, and the two requests that obstore lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.aws import session
from pipeline.errors import LakeError
from pipeline.settings import mask

CONNECT_SECONDS = 3
READ_SECONDS = 5
_ATTEMPTS = 2
# The SDK renews credentials ten minutes before they end: what is asked for this often is never an old one.
_ASK_AGAIN = timedelta(minutes=5)
_NOBODY = "give some with AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure` (docs/aws.md)"


class Account:
    """One client of the AWS SDK, made of what its own chain finds: variables, profiles, single sign-on, the machine's role.

    Raises:
        LakeError: it finds no credentials, or a profile that is not there or has ended.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        with self._told():
            self._client, self._credentials = _client()
        if self._credentials is None:
            raise LakeError(f"can't reach the lake {place}: there are no AWS credentials", hint=_NOBODY)
        self.credentials()

    @property
    def endpoint(self) -> str:
        """Where S3 is."""
        return str(self._client.meta.endpoint_url)

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        region = str(self._client.meta.region_name)
        return "us-east-1" if region == "aws-global" else region

    def credentials(self) -> Any:
        """Who we are, and until when that may be believed."""
        with self._told():
            frozen = self._credentials.get_frozen_credentials()
        expires = datetime.now(UTC) + _ASK_AGAIN
        return {"access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key, "token": frozen.token, "expires_at": expires}

    def age_seconds(self, bucket: str, key: str, etag: str) -> float | None:
        """How long ago an object was written, by the server's own clock; None when it is another one by now."""
        from botocore.exceptions import ClientError

        try:
            with self._told():
                head = self._client.head_object(Bucket=bucket, Key=key)
        except ClientError:
            return None  # it is gone; what is really wrong shows when it is read
        if head["ETag"] != etag:
            return None
        told = head["ResponseMetadata"]["HTTPHeaders"].get("date")
        now = parsedate_to_datetime(told) if told else datetime.now(UTC)
        return float((now - head["LastModified"]).total_seconds())

    def abort_uploads(self, bucket: str, prefix: str, is_ours: Callable[[str], bool]) -> int:
        """Throw away the parts of uploads below a prefix that nobody finished; returns of how many."""
        from botocore.exceptions import ClientError

        aborted = 0
        try:
            with self._told():
                for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
                    for upload in page.get("Uploads", []):
                        if is_ours(upload["Key"]):
                            self._client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                            aborted += 1
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            text = f"can't look for unfinished uploads in the lake {self._place}: {code}"
            raise LakeError(text, hint="may these credentials list and abort uploads? (docs/aws.md)") from None
        return aborted

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the SDK's errors about credentials, profiles and connections into ours. Its words never hold a secret, but may an address with one."""
        from botocore.exceptions import BotoCoreError

        try:
            yield
        except (BotoCoreError, ValueError) as error:
            text = f"can't reach the lake {self._place}: {type(error).__name__}: {mask(str(error))}"
            raise LakeError(text, hint="the AWS SDK says so; docs/aws.md says what it needs") from None


def _client() -> tuple[Any, Any]:
    """A client for S3, and the credentials that it signs with."""
    from botocore.config import Config

    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"mode": "standard", "total_max_attempts": _ATTEMPTS})
    asking = session()
    return asking.client("s3", config=config), asking.get_credentials()
