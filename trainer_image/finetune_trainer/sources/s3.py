"""Rows and models in S3 buckets, by the client that Arrow brings."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from finetune_api.base import sha256_of
from finetune_api.reasons import Reason
from finetune_api.uris import BucketPath
from finetune_trainer.sources.credentials import Credentials
from finetune_trainer.sources.files import RowFile
from finetune_trainer.sources.rows import FileRows, StoredFile, check_kind, files_of_split
from finetune_trainer.stage.failure import StageError, first_line
from finetune_trainer.stage.files import new_folder

_SECONDS = 60.0
_BLOCK = 8 * 1024**2
_SHOWN = 8
# What a model may have its weights in.
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack"}
# What the client's errors say of who asks. Arrow gives them as text only.
_REJECTED = re.compile(
    r"AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN_ID|"
    r"MISSING_AUTHENTICATION_TOKEN|UNRECOGNIZED_CLIENT|INVALID_SIGNATURE|REQUEST_EXPIRED)|HTTP status 40[013]|"
    r"(InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|AccessDenied|XAdminUserNotFound)"
)
_MISSING = re.compile(r"AWS Error (NO_SUCH_BUCKET|NO_SUCH_KEY|RESOURCE_NOT_FOUND)|HTTP status 404|NoSuchBucket")


@dataclass(frozen=True)
class StoredObject:
    """An object of a bucket."""

    path: str  # bucket/key
    size: int
    etag: str


class Bucket:
    """An S3 server as one set of credentials sees it. A busy server is asked again a few times."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._client: Any = None

    @property
    def _files(self) -> Any:
        if self._client is None:
            from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

            given = self._credentials.values
            self._client = S3FileSystem(
                **_keys(given),
                region=given.get("AWS_REGION"),
                endpoint_override=given.get("AWS_ENDPOINT_URL"),
                tls_ca_file_path=_authority(self._credentials),
                connect_timeout=_SECONDS,
                request_timeout=_SECONDS,
                retry_strategy=AwsStandardS3RetryStrategy(max_attempts=4),
                check_directory_existence_before_creation=False,
            )
        return self._client

    def objects(self, location: BucketPath, missing: Reason) -> dict[str, str]:
        """Paths of what lies at and below a place, by the key relative to it; "" for the object itself.

        Raises StageError: ``missing`` where nothing is there, CredentialsRejected.
        """
        from pyarrow.fs import FileSelector, FileType

        place = f"{location.bucket}/{location.key}".rstrip("/")
        with self.told(location, missing):
            (itself,) = self._files.get_file_info([place])
            if itself.type == FileType.File:
                return {"": place}
            found = self._files.get_file_info(FileSelector(place, recursive=True, allow_not_found=True))
            paths = {info.path.removeprefix(f"{place}/"): info.path for info in found if info.type == FileType.File}
            if not paths:
                raise StageError(missing, f"{location} is not there{self._neighbours(location)}")
        return paths

    def _neighbours(self, location: BucketPath) -> str:
        from pyarrow.fs import FileSelector

        parent = f"{location.bucket}/{location.key.rpartition('/')[0]}".rstrip("/")
        found = self._files.get_file_info(FileSelector(parent, allow_not_found=True))
        names = sorted(info.base_name for info in found)[:_SHOWN]
        return f"; s3://{parent} holds {', '.join(names) or 'nothing'}"

    def stored(self, path: str, location: BucketPath) -> StoredObject:
        """What the server says of an object."""
        with self.told(location), self._files.open_input_file(path) as stream:
            return StoredObject(path, stream.size(), _etag(stream))

    def open(self, stored: StoredObject, location: BucketPath) -> BinaryIO:
        """An object, read in blocks. Raises StageError (DatasetInvalid) when it isn't the one that was found."""
        with self.told(location):
            stream = self._files.open_input_file(stored.path)
        self.check(stored, location)
        return cast(BinaryIO, io.BufferedReader(_Stream(stream, self, stored, location), _BLOCK))

    def check(self, stored: StoredObject, location: BucketPath, reason: Reason = Reason.DATASET_INVALID) -> None:
        """Raises StageError when an object isn't the one that was found any more."""
        if self.stored(stored.path, location) != stored:
            name = stored.path.rpartition("/")[2]
            problem = f"{location}: {name} was replaced while it was read"
            raise StageError(reason, problem, "apply the job again once nobody writes there")

    def download(self, path: str, target: Path, location: BucketPath) -> None:
        """Copies an object to a file."""
        with self.told(location, Reason.MODEL_NOT_FOUND), self._files.open_input_stream(path) as stream:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                while block := stream.read(_BLOCK):
                    file.write(block)

    @contextmanager
    def told(self, location: BucketPath, missing: Reason = Reason.DATASET_NOT_FOUND) -> Iterator[None]:
        """Turns the server's refusals into StageError. What may pass stays as it is."""
        try:
            yield
        except OSError as error:
            text = first_line(error)
            if _REJECTED.search(str(error)):
                raise StageError(
                    Reason.CREDENTIALS_REJECTED, f"{location}: {text} (credentials: {self._credentials!r})"
                ) from error
            if isinstance(error, FileNotFoundError) or _MISSING.search(str(error)):
                raise StageError(missing, f"{location} is not there: {text}") from error
            raise ConnectionError(f"{location}: {text}") from error  # a busy server or a lost connection


class _Stream(io.RawIOBase):
    """An object as Python reads files. A lost connection is not the file's fault.

    Blocks are requests of their own, so that each is followed by a look whether the object is still the same.
    """

    def __init__(self, stream: Any, bucket: Bucket, stored: StoredObject, location: BucketPath) -> None:
        self._stream, self._bucket, self._stored, self._location = stream, bucket, stored, location

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def readinto(self, buffer: Any) -> int:
        with self._bucket.told(self._location):
            data = self._stream.read(len(buffer))
        self._bucket.check(self._stored, self._location)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _keys(given: Mapping[str, str]) -> dict[str, Any]:
    """Given keys; else what the client finds by itself (a role of the pod, say), or none for public buckets."""
    if "AWS_ACCESS_KEY_ID" in given:
        names = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"}
        keys = {name: given.get(key, "") for name, key in names.items()}
        return {**keys, "session_token": given.get("AWS_SESSION_TOKEN")}
    found = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ROLE_ARN")
    return {} if any(os.environ.get(name) for name in found) else {"anonymous": True}


def _authority(credentials: Credentials) -> str | None:
    """The file of the authorities that are trusted: a Secret's own, or the one that the environment names."""
    if "AWS_CA_BUNDLE" in credentials.files:
        return str(credentials.files["AWS_CA_BUNDLE"])
    return credentials.values.get("AWS_CA_BUNDLE")


def _etag(stream: Any) -> str:
    return str({str(name): value for name, value in (stream.metadata() or {}).items()}.get("ETag", ""))


def bucket_rows(location: BucketPath, split: str, field: str, credentials: Credentials) -> FileRows:
    """The rows of an object, or of a split's objects below a prefix.

    Raises StageError: DatasetNotFound, DatasetInvalid for what is no kind of dataset, CredentialsRejected.
    """
    bucket, uri = Bucket(credentials), str(location)
    paths = bucket.objects(location, Reason.DATASET_NOT_FOUND)
    names = [""] if "" in paths else files_of_split(list(paths), split, uri)
    files = [_row_file(bucket, bucket.stored(paths[name], location), location) for name in names]
    return FileRows(files[0].file.name if len(files) == 1 else f"{uri} {split}", field, files)


def _row_file(bucket: Bucket, stored: StoredObject, location: BucketPath) -> StoredFile:
    name = stored.path.rpartition("/")[2]
    extension, is_compressed = check_kind(name, str(location))
    file = RowFile(name, partial(bucket.open, stored, location), extension, is_compressed)
    return StoredFile(file, lambda: sha256_of([stored.path, stored.etag, stored.size]))


def download_model(
    location: BucketPath,
    credentials: Credentials,
    cache: Path,
    with_weights: bool = True,
    settings: str = "config.json",
    writer: str = "save_pretrained",
) -> Path:
    """A model's folder below ``cache``, whole: named by the objects' ETags, so that a second run finds it there.

    Without weights it has only what its tokenizer and its configuration need. ``settings`` is the file that such a
    folder is known by, and ``writer`` who writes one; of an adapter both are others.

    Raises StageError: ModelNotFound, CredentialsRejected.
    """
    bucket = Bucket(credentials)
    paths = bucket.objects(location, Reason.MODEL_NOT_FOUND)
    if settings not in paths:
        raise StageError(
            Reason.MODEL_NOT_FOUND, f"{location} has no {settings}: it must be a folder that {writer} wrote"
        )
    if not with_weights:
        paths = {name: path for name, path in paths.items() if PurePosixPath(name).suffix not in _WEIGHTS}
    stored = {name: bucket.stored(path, location) for name, path in sorted(paths.items())}
    digest = sha256_of([str(location), *([one.path, one.etag, one.size] for one in stored.values())])
    target = cache / "models" / digest[:16]
    if not target.is_dir():  # it is there whole, or not at all
        target.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(target) as draft:
            for name, one in stored.items():
                bucket.download(one.path, draft / name, location)
                bucket.check(one, location, Reason.MODEL_NOT_FOUND)
    return target
