"""The adapter on disk: saved whole or not at all, described by its manifest, found again by a later attempt."""

from __future__ import annotations

import os
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.results import AdapterStatus, StageResult
from finetune_api.run_folder import LATEST
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.failure import StageError, failure_of, first_line
from finetune_trainer.stage.files import MANIFEST, new_folder, read_manifest, sha256_of_file
from finetune_trainer.stage.protocols import Tokenizer
from finetune_trainer.stage.result import read_result
from finetune_trainer.stage.run_folder import RunFolder, belongs

WEIGHTS = "adapter_model.safetensors"
RESCUED = "adapter-unfinished"


def save_adapter(model: CausalLM, tokenizer: Tokenizer, folder: RunFolder) -> AdapterStatus:
    """Writes adapter, tokenizer and chat template to ``<run folder>/adapter``.

    When that fails although the weights are on disk already, they stay, and the error says where. Raises StageError.
    """
    rescue = folder.path / RESCUED
    try:
        with new_folder(folder.adapter, rescue, _has_whole_weights) as draft:
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
    except Exception as error:
        if not rescue.is_dir():
            raise
        reason = Reason(failure_of(error).reason)
        text = f"training is done, but saving failed: {first_line(error)}; the trained weights are in {rescue.name}"
        raise StageError(reason, f"{text} of {folder.uri}") from error
    return adapter_status(folder)


def adapter_status(folder: RunFolder) -> AdapterStatus:
    """Describes the adapter that lies in the run's folder. Raises ValueError when it is missing or damaged."""
    manifest = read_manifest(folder.adapter)
    if manifest is None:
        raise ValueError(f"the adapter in {folder.adapter} is missing or damaged")
    return AdapterStatus(
        uri=folder.adapter_uri,
        sha256=sha256_of_file(folder.adapter / MANIFEST),
        size_bytes=sum(file.size_bytes for file in manifest.files.values()),
        files=len(manifest.files),
    )


def finished_training(folder: RunFolder, config: RunConfig) -> StageResult | None:
    """The result of this spec in a folder, whichever job it is of, if its adapter is whole and the one it names."""
    result = read_result(folder.result)
    if result is None or result.adapter is None or not belongs(result, config):
        return None
    try:
        return result if adapter_status(folder).sha256 == result.adapter.sha256 else None
    except ValueError:
        return None


def link_latest(folder: RunFolder) -> None:
    """Points ``latest`` in the destination at this run, where the store has links."""
    link = folder.path.parent / LATEST
    draft = link.with_name(f".{LATEST}-{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)  # in a pod every attempt has the same PID
        draft.symlink_to(Path(folder.path.name), target_is_directory=True)
        draft.replace(link)
    except OSError:  # an object store behind a file system driver has no links; the URI names the run anyway
        draft.unlink(missing_ok=True)


def _has_whole_weights(draft: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(draft / WEIGHTS, framework="pt") as weights:
            return bool(weights.keys())
    except (OSError, SafetensorError):
        return False
