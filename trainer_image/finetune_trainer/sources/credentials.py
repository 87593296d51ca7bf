"""Credentials of sources: from the Secret that a source names, or from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_api.config import RunConfig
from finetune_api.credentials import HUB_TOKEN, S3_KEYS, SecretReference
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError


@dataclass(frozen=True)
class Credentials:
    """Keys of a Secret, or of the environment. Their values are never printed."""

    values: Mapping[str, str]
    source: str  # for messages
    files: Mapping[str, Path]  # of a Secret, by key

    def __repr__(self) -> str:
        return f"Credentials({self.source}: {', '.join(sorted(self.values)) or 'none'})"

    @property
    def hub_token(self) -> str | None:
        """The token for the hub; None: as huggingface_hub finds it itself, or none."""
        return self.values.get(HUB_TOKEN)


_OF_SOURCES = (HUB_TOKEN, *S3_KEYS)


def credentials_of(
    config: RunConfig, reference: SecretReference | None, known: Sequence[str] = _OF_SOURCES
) -> Credentials:
    """The ``known`` keys of a Secret, by default those of a source.

    Without a reference they are the environment's, and so they are in a local run, which mounts no Secret. Raises
    StageError (CredentialsRejected) for a Secret that holds none of the known keys.
    """
    mounted = {secret.name: Path(secret.path) for secret in config.secrets}
    if reference is None or reference.name not in mounted:
        values = {key: os.environ[key] for key in known if os.environ.get(key)}
        return Credentials(values, "the environment", {})
    folder = mounted[reference.name]
    files = {path.name: path for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
    values = {key: files[key].read_text().strip() for key in known if key in files}
    if not values:
        found = ", ".join(sorted(name for name in files if not name.startswith("."))) or "nothing"
        raise StageError(
            Reason.CREDENTIALS_REJECTED,
            f"Secret {reference.name} holds {found}, and none of {', '.join(known)}",
            "name its keys so",
        )
    pair = [key for key in S3_KEYS[:2] if key in values]
    if len(pair) == 1:
        raise StageError(
            Reason.CREDENTIALS_REJECTED,
            f"Secret {reference.name} holds {pair[0]} without the other of {' and '.join(S3_KEYS[:2])}",
            "add it",
        )
    return Credentials(values, f"Secret {reference.name}", files)
