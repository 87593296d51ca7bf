"""The command ``finetune verify``: whether an evaluation's figures come out again from its lineage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetune_api.reasons import Reason, exit_code
from finetune_trainer.dry_run import run_dry
from finetune_trainer.finished_evaluation import find_evaluation
from finetune_trainer.local_claims import parse_mounts
from finetune_trainer.reevaluation import config_again, reevaluate
from finetune_trainer.verification import judge


def verify_report(place: Path, mounts: Sequence[str], here: Path) -> int:
    """Evaluates again and shows then beside now.

    Returns 0 when the figures hold, that of EvaluationFailed when they don't, else a stage's exit code. Raises
    StageError for a place without an evaluation, and a claim without a folder.
    """
    found = find_evaluation(place)
    config = config_again(found, parse_mounts(mounts), here)
    again, code = run_dry(config, lambda: reevaluate(found, config))
    if again is None:
        return code
    verdict = judge(found.report, found.recorded, again.evaluation, found.runner, again.runner)
    from finetune_trainer.verify_tables import print_verdict

    print_verdict(verdict)
    return 0 if verdict.holds else exit_code(Reason.EVALUATION_FAILED)
