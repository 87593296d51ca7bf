"""What comes from the Hugging Face hub: the commit behind a revision, and the rows of a dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from finetune_api.base import sha256_of
from finetune_api.reasons import Reason
from finetune_api.uris import HubSource
from finetune_trainer.sources.files import GZIP, local_file, read_file
from finetune_trainer.sources.hub_errors import is_elsewhere, rejected_status
from finetune_trainer.stage.failure import StageError

Kind = Literal["model", "dataset"]
_PROBE_FILE = {"model": "config.json", "dataset": "README.md"}
_SCRIPT = "Dataset scripts are no longer supported"  # the start of a RuntimeError
_REJECTED = (401, 403)
_NOT_FOUND = {"model": Reason.MODEL_NOT_FOUND, "dataset": Reason.DATASET_NOT_FOUND}
_LINES = {".jsonl": ".jsonl", ".ndjson": ".jsonl", ".json": ".json", ".csv": ".csv"}


@dataclass(frozen=True)
class HubRows:
    """A split of a hub dataset at a commit. See :class:`finetune_trainer.sources.rows.RowSource`."""

    uri: str
    split: str
    field: str
    repository: str  # "owner/name"
    commit: str
    config: str | None = None
    token: str | None = dataclass_field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.uri} {self.split}"

    def rows(self) -> Iterator[tuple[str, object]]:
        """Yields (place of the row, raw row).

        Text files are read as those on a claim are: the library would take "None" for a gap, and digits for numbers.
        Raises StageError: DatasetNotFound when the repository has no such data, configuration or split, DatasetInvalid
        when its files can't be read, CredentialsRejected.
        """
        yield from hub_rows(self)

    def content_key(self) -> str:
        """The commit says it all."""
        return sha256_of([self.repository, self.commit, self.config, self.split])


def resolve_revision(location: HubSource, revision: str, kind: Kind, token: str | None = None) -> str:
    """The commit that a branch or tag stands for now.

    Offline it is read from the cache. Raises StageError (ModelNotFound, DatasetNotFound) when the hub or the cache has
    no such repository or revision, CredentialsRejected when the hub wants another token.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = HfApi(token=token).repo_info(location.repository, revision=revision, repo_type=kind, timeout=30)
        return info.sha or ""
    except OfflineModeIsEnabled:
        return _cached_commit(location, revision, kind)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status not in (*_REJECTED, 404):
            raise
        raise _refusal(f"hf://{location.repository} at revision {revision!r}", status, kind, token) from error


def _refusal(what: str, status: int, kind: Kind, token: str | None) -> StageError:
    """What the hub's no means. It says 401 of a repository that isn't there, and 404 of one that is private."""
    sent = "with the token that was sent" if token else "without a token"
    text = f"the hub does not give {what} {sent} (HTTP {status}): "
    if status in _REJECTED:
        said = "it is private or gated, or it isn't there" if status == 401 else "it is gated: its owner gives access"
        return StageError(Reason.CREDENTIALS_REJECTED, text + said)
    return StageError(_NOT_FOUND[kind], f"{text}it isn't there, or it is private")


def _cached_commit(location: HubSource, revision: str, kind: Kind) -> str:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(location.repository, _PROBE_FILE[kind], revision=revision, repo_type=kind)
    if not isinstance(path, str):
        raise StageError(
            _NOT_FOUND[kind], f"hf://{location.repository} at {revision!r} is not in the cache, and the hub is off"
        )
    return Path(path).parent.name


def hub_rows(source: HubRows) -> Iterator[tuple[str, object]]:
    """See :meth:`HubRows.rows`."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from pyarrow import ArrowException

    where = f"{source.uri} split {source.split!r}"
    try:
        rows = _rows(source)
    except (DatasetsError, ArrowException, FileNotFoundError, RuntimeError, ValueError) as error:
        if status := rejected_status(error):
            raise _refusal(where, status, "dataset", source.token) from error
        if is_elsewhere(error, HF_HUB_OFFLINE):
            raise
        if isinstance(error, (DatasetsError, ArrowException)) and not isinstance(error, FileNotFoundError):
            raise StageError(Reason.DATASET_INVALID, f"{where}: {_unreadable(error)}") from error
        if advice := _configurations(error, source):
            raise StageError(Reason.DATASET_NOT_FOUND, f"{where}: {advice[0]}", advice[1]) from error
        if isinstance(error, (FileNotFoundError, ValueError)) or str(error).startswith(_SCRIPT):
            raise StageError(Reason.DATASET_NOT_FOUND, f"{where}: {error}") from error
        raise
    yield from rows


def _rows(source: HubRows) -> Iterator[tuple[str, object]]:
    from datasets import load_dataset, load_dataset_builder

    place = _place(source)
    builder = load_dataset_builder(place, source.config, revision=source.commit, token=source.token)
    if _is_plain_text(builder):
        splits = builder.config.data_files
        if source.split not in splits:
            raise ValueError(f'Unknown split "{source.split}". Should be one of {[str(name) for name in splits]}.')
        return _text_rows(source, list(splits[source.split]))
    rows = load_dataset(place, source.config, split=source.split, revision=source.commit, token=source.token)
    return ((f"{source.uri} {source.split} row {number}", raw) for number, raw in enumerate(rows, start=1))


def _place(source: HubRows) -> str:
    """The repository for the library: its name, or while the hub is off the folder of its files in the cache."""
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE
    from huggingface_hub.file_download import repo_folder_name

    name = repo_folder_name(repo_id=source.repository, repo_type="dataset")
    folder = Path(HF_HUB_CACHE) / name / "snapshots" / source.commit
    return str(folder) if HF_HUB_OFFLINE and folder.is_dir() else source.repository


def _is_plain_text(builder: Any) -> bool:
    """Whether a dataset is CSV or JSON files that say nothing special of how to read them."""
    from datasets.packaged_modules.csv.csv import Csv, CsvConfig
    from datasets.packaged_modules.json.json import Json

    config = builder.config
    if isinstance(builder, Csv):
        return bool(config.pd_read_csv_kwargs == CsvConfig().pd_read_csv_kwargs)
    return isinstance(builder, Json) and config.field is None


def _text_rows(source: HubRows, files: list[str]) -> Iterator[tuple[str, object]]:
    """Downloads and unpacks the files now, and reads them as they are asked for."""
    from datasets import DownloadConfig, DownloadManager

    manager = DownloadManager(download_config=DownloadConfig(token=source.token))
    archives = manager.download_and_extract(files)
    # What was unpacked may have lost its ending: then the one in the repository counts.
    found = [
        (Path(path), path if _ending(path) else url)
        for url, archive in zip(files, archives, strict=True)
        for path in manager.iter_files(archive)
    ]
    return _read_files(source, found)


def _read_files(source: HubRows, files: list[tuple[Path, str]]) -> Iterator[tuple[str, object]]:
    for path, name in files:
        label = f"{source.uri} {PurePosixPath(name).name}"
        for number, raw in read_file(local_file(path, label, _ending(name) or ".jsonl", path.suffix == GZIP)):
            yield f"{label} row {number}", raw


def _ending(name: str) -> str:
    """The extension that says how to read a file, without that of a compression; empty for an unknown one."""
    return next((_LINES[suffix] for suffix in reversed(PurePosixPath(name).suffixes) if suffix in _LINES), "")


def _configurations(error: Exception, source: HubRows) -> tuple[str, str] | None:
    """What to say, and to advise, where the library wants another configuration; None for other errors."""
    found = re.search(r"(?:available configs|not found\. Available): \[(.*)\]", str(error))
    if not found:
        return None
    names = found[1].replace("'", "")
    if source.config:
        return f"there is no configuration {source.config!r}; there are {names}", f"set {source.field}.config to one"
    return f"it has several configurations: {names}", f"set {source.field}.config to one of them"


def _unreadable(error: Exception) -> str:
    """What was wrong with a file: the second line of the library's own text, or else its cause's first and last."""
    lines = _lines(error)
    if len(lines) > 1:
        return lines[1]
    lines = _lines(error.__cause__ or error)
    return f"{lines[0]} … {lines[-1]}" if len(lines) > 1 else "".join(lines)


def _lines(error: BaseException) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()]
