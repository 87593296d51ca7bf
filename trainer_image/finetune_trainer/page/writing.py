"""Writes the page beside report.json, at the end of an evaluation."""

from __future__ import annotations

from finetune_api.results import StageResult
from finetune_trainer.page.reading import read_inputs
from finetune_trainer.page.render import render
from finetune_trainer.stage.console import say
from finetune_trainer.stage.files import write_text
from finetune_trainer.stage.run_folder import EvaluationFolder


def with_page(folder: EvaluationFolder, result: StageResult) -> StageResult:
    """Writes the page of an evaluation whose report lies in its folder. Returns the result, which names the page then.

    A page that can't be made fails no evaluation: the figures are there, and ``finetune report`` makes it later.
    """
    assert result.evaluation, "a page is of an evaluation that ended well"
    try:
        page = render(read_inputs(folder.path, result))
    except Exception as error:
        say(f"no report page could be made: {type(error).__name__}: {error}; finetune report makes it from the folder")
        return result
    write_text(folder.page, page)
    return result.model_copy(update={"evaluation": result.evaluation.model_copy(update={"page_uri": folder.page_uri})})
