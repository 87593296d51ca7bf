"""How the plugin derives what it shows, and how it reads its command line."""

from __future__ import annotations

import contextlib
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from finetune_api.job import FineTuneJob
from finetune_api.progress import ProgressStatus
from finetune_api.results import EvaluationStatus
from finetune_cli import text
from finetune_cli.client import connect
from finetune_cli.commands import app, duration
from finetune_cli.errors import CliError
from finetune_cli.scores import render_evaluation, title
from finetune_cli.screen import LineScreen, LiveScreen
from finetune_cli.view import View, advance, remaining, waited

DATA = Path(__file__).parents[2] / "data/cli"
NOW = datetime(2026, 11, 24, 15, 3, 0, tzinfo=UTC)


def job_of(name: str) -> FineTuneJob:
    return FineTuneJob.model_validate(yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8")))


def training_job(step: int = 120, loss: str | None = "0.5", pod: str = "train-a", **progress: object) -> FineTuneJob:
    job = job_of("training")
    update = ProgressStatus.model_validate(
        {"stage": "Train", "pod": pod, "step": step, "totalSteps": 200, "loss": loss, **progress}
    )
    return job.model_copy(update={"status": job.status.model_copy(update={"progress": update})})


def losses_of(*jobs: FineTuneJob) -> tuple[float, ...]:
    view: View | None = None
    for job in jobs:
        view = advance(view, job, NOW)
    assert view is not None
    return view.losses


def test_the_trend_gets_one_loss_per_step_seen() -> None:
    assert losses_of(training_job(10, "2.5"), training_job(10, "2.5"), training_job(20, "1.5")) == (2.5, 1.5)


def test_a_new_attempt_at_the_same_step_counts_in_the_trend() -> None:
    assert losses_of(training_job(10, "2.5"), training_job(10, "2.4", pod="train-b")) == (2.5, 2.4)


@pytest.mark.parametrize("loss", [None, "nan", "inf", "none"])
def test_a_loss_that_is_no_number_stays_out_of_the_trend(loss: str | None) -> None:
    assert losses_of(training_job(10, loss)) == ()


def test_rows_scored_while_evaluating_stay_out_of_the_trend() -> None:
    assert losses_of(training_job(10, "2.5"), training_job(64, "0.1", stage="Evaluate")) == (2.5,)


def test_the_estimate_is_counted_down_and_never_below_nothing() -> None:
    view = advance(None, training_job(remainingSeconds=61), NOW)
    assert remaining(view, NOW + timedelta(seconds=10)) == "51s"
    assert remaining(view, NOW + timedelta(seconds=90)) == "0s"


def test_a_line_that_stands_there_already_is_not_repeated() -> None:
    output = io.StringIO()
    console = Console(file=output, width=40)
    with LineScreen(console, lambda: NOW) as screen:
        for step in (10, 10, 20):
            screen.show(advance(None, training_job(step), NOW))
    first, second = output.getvalue().splitlines()
    assert first.startswith("15:03:00  Training  10/200 (0%)  loss 0.5")
    assert second.startswith("15:03:00  Training  20/200 (0%)  loss 0.5")


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://example.com\x07link\x1b]8;;\x07", "link"),
        (" 10%\r 20%\r\n done", " 20%\n done"),
        ("a\tb\x00\x9bc", "a b  c"),
    ],
)
def test_control_characters_of_a_log_never_reach_the_terminal(value: str, cleaned: str) -> None:
    assert text.clean(value) == cleaned


def test_a_trend_falls_from_the_highest_bar_to_the_lowest() -> None:
    assert text.sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert text.sparkline([1.0]) == ""
    assert text.sparkline([1.0, 1.0]) == "▁▁"


def test_a_screen_stays_when_watching_ends_before_the_job_and_goes_when_its_result_comes() -> None:
    for error in (None, KeyboardInterrupt()):
        console = Console(file=io.StringIO(), width=60, force_terminal=True, _environ={"TERM": "xterm"})
        with contextlib.suppress(KeyboardInterrupt), LiveScreen(console, lambda: NOW) as screen:
            screen.show(advance(None, training_job(summary="10/200"), NOW))
            if error:
                raise error
        written = console.file.getvalue()  # type: ignore[attr-defined]
        erased_at_the_end = written.rstrip("\r\n").endswith("\x1b[2K")
        assert erased_at_the_end is (error is None)


def test_time_spent_waiting_for_pods_is_told_apart() -> None:
    assert waited(job_of("succeeded")) == "54s"
    assert waited(job_of("succeeded-without-evaluation")) == ""


@pytest.mark.parametrize(
    ("metric", "words"), [("LetterAccuracy", "letter accuracy"), ("Bleu", "bleu"), ("F\x1b[31m1", "f1")]
)
def test_a_metric_that_nobody_knows_yet_has_a_title(metric: str, words: str) -> None:
    assert title(metric) == words


@pytest.mark.parametrize(("value", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2h", 7200)])
def test_a_duration_is_read_as_kubectl_writes_it(value: str, seconds: int) -> None:
    assert duration(value) == seconds


@pytest.mark.parametrize("value", ["10", "", "0s", "5 m", "-1s", "soon"])
def test_another_text_than_a_duration_is_refused_with_examples(value: str) -> None:
    with pytest.raises(typer.BadParameter, match="no duration such as 90s, 10m or 1h30m"):
        duration(value)


def test_a_context_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "blue",
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in ("blue", "green")],
                "clusters": [{"name": "blue", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "blue", "user": {}}],
            }
        )
    )
    with pytest.raises(CliError, match="no context 'red' in the kubeconfig; there are: blue, green"):
        connect(kubeconfig, "red", None)


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=rf"can't use the kubeconfig {tmp_path}/none: .* pass --kubeconfig"):
        connect(tmp_path / "none", None, None)


def test_an_api_server_that_does_not_answer_is_named_once_and_ends_the_command(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "blue",
                "contexts": [{"name": "blue", "context": {"cluster": "blue", "user": "blue", "namespace": "ml"}}],
                "clusters": [{"name": "blue", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "blue", "user": {}}],
            }
        )
    )
    done = CliRunner().invoke(app, ["watch", "medqa", "--kubeconfig", str(kubeconfig)])
    assert done.exit_code == 3
    assert "error: can't reach the API server https://127.0.0.1:1: " in done.output
    assert "Connection refused; check the kubeconfig" in done.output


def test_the_help_names_every_option_and_exit_code() -> None:
    shown = " ".join(CliRunner().invoke(app, ["watch", "--help"]).output.split())
    for word in (
        "--namespace",
        "--kubeconfig",
        "--context",
        "--timeout",
        "0 the job succeeded",
        "1 it failed",
        "130 Ctrl-C",
    ):
        assert word in shown


def test_slices_and_own_prompts_are_shown_with_their_names_and_never_as_markup() -> None:
    value = {"value": "0.5", "interval95": {"low": "0.4", "high": "0.6"}}
    metric = {"name": "Accuracy", "base": value, "tuned": value, "pValue": "0.01", "adjustedPValue": "0.034"}
    few = {"name": "topic=[red]heart\x1b[2J", "examples": 7, "metrics": [metric], "warning": "only 7"}
    samples = [{"name": "mine", "prompt": "Who?", "expected": "", "base": {"text": "I"}, "tuned": {"text": "You"}}]
    evaluation = EvaluationStatus.model_validate(
        {"summary": "0.5→0.5", "examples": 9, "metrics": [metric], "slices": [few], "samples": samples}
    )
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(render_evaluation(evaluation))
    lines = [" ".join(line.split()) for line in capture.get().splitlines()]
    assert any(line.startswith("topic=[red]heart 7 (few) 50.0%") and line.endswith("0.034") for line in lines)
    assert "few: only 7" in lines
    assert "prompt mine: Who?" in lines
    assert not any(line.startswith("expected") for line in lines)
