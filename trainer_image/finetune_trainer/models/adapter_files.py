"""Saves the adapter whole: a draft folder, a manifest with every file's digest, then one rename."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from finetune_api.config import RunConfig
from finetune_api.results import AdapterStatus
from finetune_trainer.stage.files import MANIFEST, new_folder, read_manifest, sha256_of_file
from finetune_trainer.stage.run_folder import RunFolder


def save_adapter(model: Any, tokenizer: Any, config: RunConfig, folder: RunFolder) -> AdapterStatus:
    """Writes adapter, tokenizer and chat template to ``<run folder>/adapter``."""
    with new_folder(folder.adapter) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    return adapter_status(config, folder)


def adapter_status(config: RunConfig, folder: RunFolder) -> AdapterStatus:
    """Describes the adapter that lies in the run's folder. Raises ValueError when it is missing or damaged."""
    manifest = read_manifest(folder.adapter)
    if manifest is None:
        raise ValueError(f"the adapter in {folder.adapter} is missing or damaged")
    return AdapterStatus(
        uri=str(config.run_uri / "adapter"),
        sha256=sha256_of_file(folder.adapter / MANIFEST),
        size_bytes=sum(file.size_bytes for file in manifest.files.values()),
        files=len(manifest.files),
    )


def link_latest(folder: RunFolder) -> None:
    """Points ``latest`` in the destination at this run, where the store has links."""
    link = folder.path.parent / "latest"
    draft = link.with_name(f".latest-{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)  # in a pod every attempt has the same PID
        draft.symlink_to(Path(folder.path.name), target_is_directory=True)
        draft.replace(link)
    except OSError:  # an object store behind a file system driver has no links; the URI names the run anyway
        draft.unlink(missing_ok=True)
