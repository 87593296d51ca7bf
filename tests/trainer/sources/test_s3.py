"""Rows from a real S3 server, and what is said when it refuses."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_api.reasons import Reason
from finetune_api.uris import BucketPath
from finetune_trainer.sources.claim import claim_rows
from finetune_trainer.sources.credentials import Credentials
from finetune_trainer.sources.s3 import Bucket, bucket_rows, download_model
from s3_server import S3Server
from trainer_inputs import ROWS, refusal

_numbers = itertools.count(1)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
FILES = {"train-0.jsonl.gz": gzip.compress(LINES), "train-1.jsonl.gz": gzip.compress(b"{half\n" + LINES)}

NewBucket = Callable[[dict[str, bytes]], str]


@pytest.fixture
def new_bucket(s3_server: S3Server) -> NewBucket:
    """Makes a bucket with objects by their keys."""

    def make(objects: dict[str, bytes]) -> str:
        name = f"bucket-{next(_numbers)}"
        s3_server.make_bucket(name)
        s3_server.put(name, objects)
        return name

    return make


def credentials(server: S3Server, **changes: str) -> Credentials:
    return Credentials({**server.environment, **changes}, "Secret store", {})


def test_the_same_files_give_the_same_rows_from_a_bucket_and_from_a_claim(
    s3_server: S3Server, new_bucket: NewBucket, tmp_path: Path
) -> None:
    bucket = new_bucket({f"rows/{name}": content for name, content in FILES.items()})
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    stored = bucket_rows(BucketPath(bucket, "rows"), "train", "spec.dataset", credentials(s3_server))
    on_claim = claim_rows(tmp_path, "pvc://work/rows", "train", "spec.dataset")
    assert list(stored.rows()) == list(on_claim.rows())
    assert len(list(stored.rows())) == 7


def test_the_key_of_the_content_changes_with_an_object(s3_server: S3Server, new_bucket: NewBucket) -> None:
    bucket = new_bucket({"train.jsonl": LINES})
    keys = []
    for content in (LINES, LINES, LINES.replace(b"one", b"two")):
        s3_server.put(bucket, {"train.jsonl": content})
        place = BucketPath(bucket, "train.jsonl")
        keys.append(bucket_rows(place, "train", "spec.dataset", credentials(s3_server)).content_key())
    assert keys[0] == keys[1] != keys[2]


def test_what_is_not_there_is_told_with_what_lies_in_its_place(s3_server: S3Server, new_bucket: NewBucket) -> None:
    bucket = new_bucket({"rows/other.jsonl": LINES})
    place = BucketPath(bucket, "rows/train.jsonl")
    text = refusal(
        lambda: bucket_rows(place, "train", "spec.dataset", credentials(s3_server)), Reason.DATASET_NOT_FOUND
    )
    assert text == f"s3://{bucket}/rows/train.jsonl is not there; s3://{bucket}/rows holds other.jsonl"


@pytest.mark.parametrize(
    "changes",
    [
        {"AWS_SECRET_ACCESS_KEY": "wrong-one"},
        {"AWS_ACCESS_KEY_ID": "nobody"},
        {"AWS_SESSION_TOKEN": "expired"},
        {"AWS_REGION": "eu-west-1"},
    ],
)
def test_credentials_that_are_not_taken_are_told_without_their_values(
    s3_server: S3Server, new_bucket: NewBucket, changes: dict[str, str]
) -> None:
    place = BucketPath(new_bucket({"train.jsonl": LINES}), "train.jsonl")
    given = credentials(s3_server, **changes)
    text = refusal(lambda: bucket_rows(place, "train", "spec.dataset", given), Reason.CREDENTIALS_REJECTED)
    assert "Secret store" in text
    assert not any(secret in text for secret in (s3_server.secret, "wrong-one", "expired"))


def test_a_server_that_does_not_answer_is_tried_again_by_the_next_attempt(s3_server: S3Server) -> None:
    given = credentials(s3_server, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="Could not connect"):
        bucket_rows(BucketPath("rows", "train.jsonl"), "train", "spec.dataset", given)


def test_a_public_bucket_needs_no_credentials(s3_server: S3Server, new_bucket: NewBucket) -> None:
    bucket = new_bucket({"train.jsonl": LINES})
    s3_server.make_public(bucket)
    none = {name: s3_server.environment[name] for name in ("AWS_REGION", "AWS_ENDPOINT_URL")}
    rows = bucket_rows(BucketPath(bucket, "train.jsonl"), "train", "spec.dataset", Credentials(none, "none", {}))
    assert [raw for _, raw in rows.rows()] == ROWS


def test_an_object_that_is_replaced_while_it_is_read_is_refused(
    s3_server: S3Server, new_bucket: NewBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_trainer.sources.s3._BLOCK", 100)
    bucket = new_bucket({"train.jsonl": LINES})
    rows = bucket_rows(BucketPath(bucket, "train.jsonl"), "train", "spec.dataset", credentials(s3_server)).rows()
    assert next(rows)[1] == ROWS[0]
    s3_server.put(bucket, {"train.jsonl": LINES.replace(b"one", b"two")})
    assert "train.jsonl was replaced while it was read" in refusal(lambda: list(rows), Reason.DATASET_INVALID)


def test_a_model_comes_whole_and_once_and_another_one_under_its_own_name(
    s3_server: S3Server, new_bucket: NewBucket, tmp_path: Path
) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"weights", "sub/template.jinja": b"{{ messages }}"}
    location = BucketPath(new_bucket({f"base/{name}": content for name, content in files.items()}), "base")
    folder = download_model(location, credentials(s3_server), tmp_path)
    assert {name: (folder / name).read_bytes() for name in files} == files
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert download_model(location, credentials(s3_server), tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    s3_server.put(location.bucket, {"base/model.safetensors": b"WEIGHTS"})
    assert download_model(location, credentials(s3_server), tmp_path) != folder


def test_a_model_that_is_replaced_while_it_is_copied_leaves_nothing_behind(
    s3_server: S3Server, new_bucket: NewBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = BucketPath(new_bucket({"base/config.json": b"{}", "base/model.safetensors": b"weights"}), "base")
    copy = Bucket.download

    def replaced(bucket: Bucket, path: str, target: Path, place: BucketPath) -> None:
        copy(bucket, path, target, place)
        s3_server.put(location.bucket, {"base/model.safetensors": b"other"})

    monkeypatch.setattr(Bucket, "download", replaced)
    text = refusal(lambda: download_model(location, credentials(s3_server), tmp_path), Reason.MODEL_NOT_FOUND)
    assert "model.safetensors was replaced while it was read" in text
    assert list((tmp_path / "models").iterdir()) == []


def test_a_folder_that_is_no_model_is_told(s3_server: S3Server, new_bucket: NewBucket, tmp_path: Path) -> None:
    location = BucketPath(new_bucket({"base/readme.txt": b"hello"}), "base")
    text = refusal(lambda: download_model(location, credentials(s3_server), tmp_path), Reason.MODEL_NOT_FOUND)
    assert "has no config.json" in text
