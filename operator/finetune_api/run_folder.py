"""Where a run's artefacts lie below its destination. Operator and trainer share it; docs/results.md shows the tree."""

from __future__ import annotations

from pathlib import PurePosixPath

from finetune_api.uris import ClaimPath, parse_claim

DIGEST_LENGTH = 12

ADAPTER = "adapter"
MODEL = "model"
RESULT = "result.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
DATASET = "dataset.json"
# What of the spec makes the result: without runtime, scheduling and output.
SPEC = "spec.json"
LOCK = "run.lock.json"
# Prepared rows, in a folder for each content hash, beside the run folders of a destination.
ROW_CACHE = "row-cache"
EVALUATIONS = "evaluations"
REPORT = "report.json"
PAGE = "report.html"
LATEST = "latest"


def run_folder(destination: str, training_sha256: str) -> ClaimPath:
    """The folder that jobs of one training share: ``<destination>/<first 12 digits of trainingSha256>``.

    The first to come writes there; an identical job finds its result there. A job that needs other artefacts under the
    same digest (another image, other rows behind the same source) writes to :func:`own_folder` instead, so that what a
    status names by digest never changes. Raises ValueError for a destination that is no pvc:// URI.
    """
    return parse_claim(destination) / training_sha256[:DIGEST_LENGTH]


def own_folder(destination: str, training_sha256: str, job_uid: str) -> ClaimPath:
    """The folder of one job alone, beside the shared one: ``<shared>-<first 8 characters of the job's UID>``."""
    return parse_claim(destination) / f"{training_sha256[:DIGEST_LENGTH]}-{job_uid[:8]}"


def checkpoint_folder(run: ClaimPath, claim: str | None) -> ClaimPath:
    """Where a run's checkpoints lie: in its folder, or below ``checkpoints/`` of another claim, named as the run is."""
    if claim in (None, run.claim):
        return run / CHECKPOINTS
    root = checkpoint_root(claim)
    return ClaimPath(claim, root.path / run.claim / run.path)


def checkpoint_root(claim: str) -> ClaimPath:
    """The folder of all runs' checkpoints on a claim that isn't their output's."""
    return ClaimPath(claim, PurePosixPath(CHECKPOINTS))


def evaluation_folder(folder: ClaimPath, evaluation_sha256: str) -> ClaimPath:
    """Where an evaluation's report and result lie inside a run's folder."""
    return folder / EVALUATIONS / evaluation_sha256[:DIGEST_LENGTH]
