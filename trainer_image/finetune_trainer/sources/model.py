"""The base model in the words of ``from_pretrained``, and a fingerprint of one that lies on a claim."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from finetune_api.base import sha256_of
from finetune_trainer.stage.files import sha256_of_file

# What from_pretrained may read of a model, its tokenizer and its code.
_READ = {".json", ".safetensors", ".bin", ".pt", ".model", ".txt", ".jinja", ".tiktoken", ".py"}


@dataclass(frozen=True)
class ModelSource:
    """A model in the words of ``from_pretrained``. The adapter records ``name``, so mount paths must stay the same."""

    name: str  # a hub repository or a folder
    revision: str | None  # the commit of a hub model
    trust_remote_code: bool
    sha256: str | None = None  # fingerprint of a folder; a hub model has its commit
    token: str | None = field(default=None, repr=False)  # for the hub


def fingerprint(folder: Path) -> str:
    """SHA-256 over path, size and content of every file that ``from_pretrained`` may read, sub-folders included.

    Content, because sizes and times can be equal for other weights. It reads the model once, which loading does anyway
    and then finds in the page cache: about 2 s of CPU for 2.5 GB on a core that has SHA instructions.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _READ and path.is_file() and not _is_hidden(path.relative_to(folder))
    )
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:  # hashing and reading release the interpreter
        digests = list(threads.map(sha256_of_file, files))
    return sha256_of(
        [
            [path.relative_to(folder).as_posix(), path.stat().st_size, digest]
            for path, digest in zip(files, digests, strict=True)
        ]
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
