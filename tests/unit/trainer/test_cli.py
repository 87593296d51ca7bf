"""The trainer's command line."""

from __future__ import annotations

import pytest

from finetune_api.stages import STAGES, Stage
from finetune_trainer.cli import main


@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_every_stage_is_a_command(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([stage.command, "--help"])
    assert ended.value.code == 0
    assert "--config" in capsys.readouterr().out
