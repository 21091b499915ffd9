"""File systems that a log may lie in: local, S3 and Cloud Storage, with finite time-outs and errors in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from recdistill.problems import BadInput, problem

REMEDY = "restore the file or take it out of the log"
_CONNECT_S, _STALL_S, _ATTEMPTS = 5, 10, 3  # a request is given up when no byte comes for so long
_DENIED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|HTTP status 40[13]|denied", re.IGNORECASE
)


def is_local(filesystem: fs.FileSystem) -> bool:
    return isinstance(filesystem, fs.LocalFileSystem)


def filesystem_of(source: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path that it knows. BadInput for an address of another kind."""
    scheme, mark, rest = source.partition("://")
    if not mark:
        return fs.LocalFileSystem(), source.rstrip("/") or "/"
    if scheme not in ("s3", "gs") or not rest.strip("/"):
        found = f"{scheme}://" if rest.strip("/") else "no bucket"
        remedy = "write s3://bucket/prefix or gs://bucket/prefix"
        raise BadInput(
            problem(where_of(source), wanted="a path, or an s3:// or gs:// address", found=found, remedy=remedy)
        )
    with answering(source):
        return (s3() if scheme == "s3" else gcs()), rest.rstrip("/")


def s3() -> fs.FileSystem:
    """Credentials and region from AWS_* or the usual files; finite time-outs. A loopback or other http endpoint is
    given with its scheme."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    settings = {}
    if endpoint:
        url = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        settings = {"endpoint_override": url.netloc + url.path.rstrip("/"), "scheme": url.scheme}
    return fs.S3FileSystem(
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        connect_timeout=_CONNECT_S,
        request_timeout=_STALL_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        **settings,
    )


def gcs() -> fs.FileSystem:
    """Application default credentials; an emulator where STORAGE_EMULATOR_HOST names one."""
    limit = timedelta(seconds=_STALL_S)
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if not emulator:
        return fs.GcsFileSystem(retry_time_limit=limit)
    url = urlsplit(emulator if "://" in emulator else f"http://{emulator}")
    return fs.GcsFileSystem(anonymous=True, scheme=url.scheme, endpoint_override=url.netloc, retry_time_limit=limit)


def where_of(source: str) -> str:
    return f"data.source {source}"


@contextmanager
def answering(source: str) -> Iterator[None]:
    """One line where the store of `source` cannot be reached or denies."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        found = first_line(error)
        remedy = _remedy(source.partition("://")[0], isinstance(error, PermissionError) or bool(_DENIED.search(found)))
        raise BadInput(
            problem(where_of(source), wanted="a place that can be read", found=found, remedy=remedy)
        ) from None


def _remedy(scheme: str, denied: bool) -> str:
    if scheme == "s3":
        return (
            "mend the AWS_* credentials or the rights" if denied else "check the address, AWS_ENDPOINT_URL, the network"
        )
    if scheme == "gs":
        return "mend the application default credentials or the rights" if denied else "check the address, the network"
    return "check the path and its rights"


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
