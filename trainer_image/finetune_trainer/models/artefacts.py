"""What a run leaves: saved whole or not at all, described by its manifest, found again by a later attempt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune_api.config import RunConfig
from finetune_api.output import ADAPTER, MERGED
from finetune_api.reasons import Reason
from finetune_api.results import AdapterStatus, ArtefactStatus, ModelStatus, StageResult
from finetune_api.run_folder import LATEST
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError, failure_of, first_line
from finetune_trainer.stage.files import MANIFEST, new_folder, read_manifest, sha256_of_file
from finetune_trainer.stage.protocols import Tokenizer
from finetune_trainer.stage.result import read_result
from finetune_trainer.stage.run_folder import RunFolder, belongs

RESCUED = "unfinished"


def save_adapter(
    model: CausalLM, tokenizer: Tokenizer, folder: RunFolder, rewrite: Callable[[Path], None] = lambda _: None
) -> AdapterStatus:
    """Writes adapter, tokenizer and chat template to ``<run folder>/adapter``; ``rewrite`` has a last say on the files.

    When that fails although the weights are on disk already, they stay, and the error says where. Raises StageError.
    """
    with _rescuing(folder, folder.adapter) as draft:
        model.save_pretrained(draft)
        rewrite(draft)
        tokenizer.save_pretrained(draft)
    return adapter_status(folder)


def save_model(model: CausalLM, tokenizer: Tokenizer, folder: RunFolder, device: Device) -> ModelStatus:
    """Writes the whole model in 16 bit, its tokenizer and chat template to ``<run folder>/model``.

    The model's weights are rounded to 16 bit afterwards, in the type that the device computes in. Raises StageError as
    :func:`save_adapter` does.
    """
    import torch

    with _rescuing(folder, folder.model) as draft:
        _round(model, getattr(torch, sixteen_bits(device)))
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    _round(model, getattr(torch, device.dtype))
    return model_status(folder, device)


def _round(model: CausalLM, dtype: Any) -> None:
    """Weights only: positions' frequencies are buffers, which no checkpoint holds and which 16 bit would spoil."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def sixteen_bits(device: Device) -> str:
    """The type of 16 bit that a whole model is saved in; of a CPU, which computes in 32 bit, bfloat16."""
    return device.dtype if device.dtype != "float32" else "bfloat16"


@contextmanager
def _rescuing(folder: RunFolder, place: Path) -> Iterator[Path]:
    """A draft that becomes ``place``. Trained weights outlive whatever fails after they are on disk."""
    rescue = folder.path / f"{place.name}-{RESCUED}"
    try:
        with new_folder(place, rescue, has_whole_weights) as draft:
            yield draft
    except Exception as error:
        if not rescue.is_dir():
            raise
        reason = Reason(failure_of(error).reason)
        text = f"training is done, but saving failed: {first_line(error)}; the trained weights are in {rescue.name}"
        raise StageError(reason, f"{text} of {folder.uri}") from error


def adapter_status(folder: RunFolder) -> AdapterStatus:
    """Describes the adapter that lies in the run's folder. Raises ValueError when it is missing or damaged."""
    return AdapterStatus.model_validate(_described(folder.adapter, folder.adapter_uri))


def model_status(folder: RunFolder, device: Device) -> ModelStatus:
    """Describes the whole model that lies in the run's folder. Raises ValueError when it is missing or damaged."""
    return ModelStatus.model_validate({**_described(folder.model, folder.model_uri), "dtype": sixteen_bits(device)})


def _described(path: Path, uri: str) -> dict[str, Any]:
    manifest = read_manifest(path)
    if manifest is None:
        raise ValueError(f"what should lie in {path} is missing or damaged")
    return {
        "uri": uri,
        "sha256": sha256_of_file(path / MANIFEST),
        "size_bytes": sum(file.size_bytes for file in manifest.files.values()),
        "files": len(manifest.files),
    }


def finished_training(folder: RunFolder, config: RunConfig) -> StageResult | None:
    """The result of this spec in a folder, whichever job it is of, if all that the spec asks for is whole there."""
    result = read_result(folder.result)
    if result is None or not belongs(result, config):
        return None
    formats = config.spec.output.formats
    artefacts = {ADAPTER: (result.adapter, folder.adapter), MERGED: (result.model, folder.model)}
    whole = all(_is_whole(told, path) for name, (told, path) in artefacts.items() if told or name in formats)
    return result if whole else None


def _is_whole(told: ArtefactStatus | None, path: Path) -> bool:
    return told is not None and read_manifest(path) is not None and sha256_of_file(path / MANIFEST) == told.sha256


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


def has_whole_weights(draft: Path) -> bool:
    """Whether weights lie in a folder and can be read."""
    from safetensors import SafetensorError, safe_open

    files = list(draft.glob("*.safetensors"))
    try:
        for file in files:
            with safe_open(file, framework="pt") as weights:
                if not weights.keys():
                    return False
    except (OSError, SafetensorError):
        return False
    return bool(files)
