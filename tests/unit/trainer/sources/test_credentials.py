"""Credentials of a source: those of its Secret, or else of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_api.config import RunConfig, SecretMount
from finetune_api.credentials import SecretReference
from finetune_api.reasons import Reason
from finetune_api.tracking import MLFLOW_KEYS, WANDB_KEYS
from finetune_trainer.sources.credentials import credentials_of
from trainer_inputs import make_config, refusal


def config(folder: Path, **keys: str) -> RunConfig:
    """A pod that a Secret named store is mounted in."""
    for key, value in keys.items():
        (folder / key).write_text(value)
    return make_config(folder).model_copy(update={"secrets": [SecretMount(name="store", path=str(folder))]})


STORE = SecretReference(name="store")


def test_a_secrets_keys_are_taken_and_not_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    given = config(tmp_path, AWS_ACCESS_KEY_ID="me\n", AWS_SECRET_ACCESS_KEY="hush", other="x")
    found = credentials_of(given, STORE)
    assert found.values == {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "hush"}
    assert "hush" not in repr(found)
    assert "AWS_SESSION_TOKEN" in credentials_of(given, None).values


def test_without_mounted_secrets_they_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "from-the-shell")
    assert credentials_of(make_config(tmp_path), STORE).hub_token == "from-the-shell"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"token": "x"}, "Secret store holds token, and none of HF_TOKEN, AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "x"}, "Secret store holds AWS_ACCESS_KEY_ID without the other of"),
    ],
)
def test_a_secret_that_lacks_keys_is_told_with_those_found_and_wanted(
    tmp_path: Path, keys: dict[str, str], words: str
) -> None:
    given = config(tmp_path, **keys)
    assert words in refusal(lambda: credentials_of(given, STORE), Reason.CREDENTIALS_REJECTED)


def test_a_secret_for_a_tracking_server_is_read_by_the_names_of_its_own_client(tmp_path: Path) -> None:
    given = config(tmp_path, WANDB_API_KEY="k", HF_TOKEN="t")
    assert credentials_of(given, STORE, WANDB_KEYS).values == {"WANDB_API_KEY": "k"}
    other = config(tmp_path, HF_TOKEN="t", WANDB_API_KEY="k")
    words = "Secret store holds HF_TOKEN, WANDB_API_KEY, and none of MLFLOW_TRACKING_TOKEN"
    assert words in refusal(lambda: credentials_of(other, STORE, MLFLOW_KEYS), Reason.CREDENTIALS_REJECTED)
