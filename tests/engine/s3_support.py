"""S3 servers for tests, and a proxy that stands between them and the lake: it counts requests, and breaks those it is told to."""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

KEY_ID = "AKIDGOLDTRACETESTS"
SECRET = "tEst/sEcret+with/slashes0"
TOKEN = "tEst-sEssion-tOken"
REGION = "eu-north-1"
BUCKET = "goldtrace-tests"


@dataclass(frozen=True)
class Request:
    """One request as the proxy sees it: `key` without the bucket, `condition` is None, `create` or `update`, `token` a session's."""

    method: str
    key: str
    query: str
    condition: str | None
    token: str | None = None


@dataclass(frozen=True)
class Answer:
    """What the proxy says in the server's place; `seconds` later. Without a status it says nothing and closes."""

    status: int | None
    code: str = ""
    seconds: float = 0.0
    done_first: bool = False  # the server gets the request, and its answer is lost


Rule = Callable[[Request], Answer | None]


@dataclass
class Proxy:
    """What was asked, and the rule for what is answered."""

    endpoint: str
    server: str
    rule: Rule = lambda _: None
    seen: list[Request] = field(default_factory=list)

    def puts(self) -> list[str]:
        """The keys that were written, without the lock."""
        return [each.key for each in self.seen if each.method in ("PUT", "POST") and not each.key.endswith("/.lock")]


@contextmanager
def moto_server() -> Iterator[str]:
    """The address of a server of moto's, with the tests' bucket. It looks at no credentials unless told to."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client(endpoint).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    try:
        yield endpoint
    finally:
        server.stop()


@contextmanager
def impatient() -> Iterator[None]:
    """Lakes that are first asked for something in the block have little patience: for those whose requests are to fail."""
    from pipeline.engine import s3_objects

    quick = s3_objects.Patience(small=timedelta(seconds=2), bulk=timedelta(seconds=3), retry=timedelta(seconds=3), retries=3)
    with patch.object(s3_objects, "PATIENCE", quick):
        yield


@contextmanager
def policies_held(endpoint: str) -> Iterator[None]:
    """As long as the block goes on, moto (all of it in this process) refuses what a policy does not allow."""
    _look_at_policies_after(endpoint, "0")
    try:
        yield
    finally:
        _look_at_policies_after(endpoint, "Infinity")


def _look_at_policies_after(endpoint: str, requests: str) -> None:
    kind = {"Content-Type": "text/plain"}
    urlopen(UrlRequest(f"{endpoint}/moto-api/reset-auth", data=requests.encode(), headers=kind, method="POST"), timeout=10).close()


def person(endpoint: str, policy: dict[str, Any]) -> tuple[str, str]:
    """The key of somebody new who has this policy."""
    import boto3.session

    iam, name = boto3.session.Session(KEY_ID, SECRET, region_name=REGION).client("iam", endpoint_url=endpoint), uuid.uuid4().hex
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="lake", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@cache
def client(endpoint: str) -> Any:
    """boto3's own, to look at a bucket from outside. One takes a while to be made."""
    import boto3.session

    return boto3.session.Session(KEY_ID, SECRET, region_name=REGION).client("s3", endpoint_url=endpoint)


def objects(endpoint: str, prefix: str) -> dict[str, bytes]:
    """All objects below a prefix, by their paths below it."""
    s3 = client(endpoint)
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])]
    return {key.removeprefix(f"{prefix}/"): s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def stamps(endpoint: str, prefix: str) -> dict[str, tuple[str, Any]]:
    """Tag and time of all objects below a prefix but the lock."""
    found = client(endpoint).list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])
    return {each["Key"]: (each["ETag"], each["LastModified"]) for each in found if not each["Key"].endswith("/.lock")}


def uploads(endpoint: str, prefix: str) -> list[str]:
    """The keys of uploads below a prefix that nobody finished."""
    return [each["Key"] for each in client(endpoint).list_multipart_uploads(Bucket=BUCKET, Prefix=f"{prefix}/").get("Uploads", [])]


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """A proxy on a port of its own. The signature is about the proxy's address, which is handed on."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.upstream = urlsplit(upstream).netloc  # type: ignore[attr-defined]
    server.proxy = Proxy(f"http://127.0.0.1:{server.server_port}", upstream)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.proxy  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked did not wait for the answer, which is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        pass

    def do_any(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        condition = "create" if self.headers.get("If-None-Match") else "update" if self.headers.get("If-Match") else None
        asked = Request(self.command, parts.path.removeprefix(f"/{BUCKET}").lstrip("/"), parts.query, condition, self.headers.get("X-Amz-Security-Token"))
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        proxy.seen.append(asked)
        broken = proxy.rule(asked)
        if broken is None or broken.done_first:
            answer = self._forward(content)
        if broken is None:
            self._send(*answer)
            return
        time.sleep(broken.seconds)
        self.close_connection = True
        if broken.status is not None:
            content = f"<Error><Code>{broken.code}</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>"
            self._send(broken.status, {"Content-Type": "application/xml"}, content.encode())

    def _forward(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)  # type: ignore[attr-defined]
        try:
            connection.request(self.command, self.path, content, dict(self.headers.items()))
            answer = connection.getresponse()
            return answer.status, {name: value for name, value in answer.getheaders() if name.lower() not in ("connection", "transfer-encoding")}, answer.read()
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
        for name, value in {**{name: value for name, value in headers.items() if name.lower() != "content-length"}, "Content-Length": length or "0"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_any  # noqa: N815


def credentials(endpoint: str, **more: str) -> dict[str, str]:
    """The environment in which the AWS SDK finds this server and nothing else of this machine."""
    return {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        **more,
    }


def files(root: Path) -> dict[str, bytes]:
    """The files of a lake in a folder, without its lock."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
