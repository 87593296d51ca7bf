"""What is found again, and what ``latest`` points at."""

from __future__ import annotations

import os
from pathlib import Path

from finetune_api.uris import parse_claim
from finetune_trainer.models.artefacts import link_latest
from finetune_trainer.stage.run_folder import RunFolder


def test_latest_is_pointed_at_the_run_over_a_link_that_a_killed_attempt_left(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out" / "0123", parse_claim("pvc://work/out/0123"))
    folder.path.mkdir(parents=True)
    draft = folder.path.parent / f".latest-{os.getpid()}"
    draft.symlink_to("nowhere")
    link_latest(folder)
    assert (folder.path.parent / "latest").resolve() == folder.path
    assert not draft.is_symlink()
