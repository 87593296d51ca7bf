"""Source and destination URIs, after KServe's convention: ``hf://owner/repo``, ``pvc://claim/path``, ``s3://bucket/key``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field

from finetune_api.rules import TextRule, rule

_CLAIM_NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_CLAIM = rf"pvc://{_CLAIM_NAME}(/[A-Za-z0-9._=@+-]+)*/?"
_S3 = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=@+-]+)*/?"
_HUB = r"hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"


@dataclass(frozen=True)
class HubSource:
    """A repository of the Hugging Face hub."""

    repository: str  # "owner/name"


@dataclass(frozen=True)
class ClaimPath:
    """A path inside a PersistentVolumeClaim of the job's namespace."""

    claim: str
    path: PurePosixPath  # relative; "." for the claim's root

    def __str__(self) -> str:
        return f"pvc://{self.claim}" if self.path == PurePosixPath(".") else f"pvc://{self.claim}/{self.path}"

    def __truediv__(self, part: str) -> ClaimPath:
        return ClaimPath(self.claim, self.path / part)


@dataclass(frozen=True)
class BucketPath:
    """An object, or all objects below a prefix, in an S3 bucket."""

    bucket: str
    key: str  # without slashes at either end; "" for the whole bucket

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")


Location = HubSource | ClaimPath | BucketPath


def parse_claim(uri: str) -> ClaimPath:
    """Parses ``pvc://claim/path``.

    Raises ValueError for any other text and for a path that leaves the claim.
    """
    if not re.fullmatch(_CLAIM, uri):
        raise ValueError(f"{uri!r} is not pvc://<claim>/<path> (lower-case claim name, plain path)")
    _refuse_dots(uri)
    claim, _, path = uri.removeprefix("pvc://").partition("/")
    return ClaimPath(claim, PurePosixPath(path))


def parse_source(uri: str) -> Location:
    """Parses a model's or dataset's source. Raises ValueError when it is none of hf://, s3:// and pvc://."""
    if re.fullmatch(_HUB, uri):
        _refuse_dots(uri)
        return HubSource(uri.removeprefix("hf://"))
    if re.fullmatch(_S3, uri):
        _refuse_dots(uri)
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return BucketPath(bucket, key.rstrip("/"))
    if uri.startswith("pvc://"):
        return parse_claim(uri)
    raise ValueError(f"{uri!r} must be {_SOURCES}")


def _refuse_dots(uri: str) -> None:
    if ".." in uri:
        raise ValueError(f"{uri!r} must not contain '..'")


_SOURCES = "hf://<owner>/<repository>, s3://<bucket>/<key> or pvc://<claim>/<path>"


@dataclass(frozen=True)
class Source(TextRule):
    """hf://, s3:// or pvc://."""

    def check(self, text: str) -> str:
        parse_source(text)
        return text

    def cel(self) -> dict[str, str]:
        return rule(
            f"(self.matches('^{_HUB}$') || self.matches('^{_S3}$') || self.matches('^{_CLAIM}$')) && "
            "!self.contains('..')",
            f"must be {_SOURCES}",
        )


@dataclass(frozen=True)
class Destination(TextRule):
    """pvc://."""

    def check(self, text: str) -> str:
        parse_claim(text)
        return text

    def cel(self) -> dict[str, str]:
        return rule(f"self.matches('^{_CLAIM}$') && !self.contains('..')", "must be pvc://<claim>/<path>")


ClaimName = Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^{_CLAIM_NAME}$")]
SourceURI = Annotated[str, Field(max_length=512), Source()]
DestinationURI = Annotated[str, Field(max_length=512), Destination()]
Revision = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._/-]+$")]
