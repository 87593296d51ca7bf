"""TensorBoard, MLflow and W&B have what metrics.jsonl has, and none of them can end a run."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from interrupted import train_until
from trainer_inputs import folder_of


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    saved = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(saved)


def losses_of(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def tensorboard_losses(folder: Path) -> dict[int, float]:
    """Read from the event files, record by record: a length, its checksum, an event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in (folder / "tensorboard").rglob("events*"):
        content, place = file.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            event = Event.FromString(content[place + 12 : place + 12 + size])
            for one in event.summary.value:
                if one.tag == "train/loss":
                    found[event.step] = one.simple_value
            place += size + 16
    return found


def runs_of(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("ml")
    assert experiment
    return list(client.search_runs([experiment.experiment_id]))


def test_every_step_stands_in_all_three_as_in_the_file_and_a_run_that_goes_on_is_one_run(
    make_config: Any, tmp_path: Path
) -> None:
    from finetune_trainer.training.train import train

    tracking = {"tensorBoard": True, "mlflow": {}, "wandb": {"project": "trials"}}
    config = make_config(tmp_path, tracking=tracking, training={"maxSteps": 6})
    train_until(config, 3)

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(folder_of(config) / "mlruns").as_uri())
    assert [run.info.status for run in runs_of(client)] == ["KILLED"]
    train(config, None)

    folder = folder_of(config)
    losses = losses_of(folder)
    assert sorted(losses) == [1, 2, 3, 4, 5, 6]
    assert tensorboard_losses(folder) == pytest.approx(losses, rel=1e-6)

    (run,) = runs_of(client)  # one, though there were two attempts
    assert run.info.status == "FINISHED"
    history = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "loss")}
    assert history == pytest.approx(losses)
    assert run.data.params["lora.rank"] == "8"
    assert run.info.run_name == "job"

    assert list((folder / "wandb").glob("offline-run-*/*.wandb"))
    ids = {re.sub(r".*-", "", path.name) for path in (folder / "wandb").glob("offline-run-*")}
    assert len(ids) == 1


def test_a_tracking_server_that_is_not_there_is_told_once_and_the_run_succeeds(
    make_config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from finetune_trainer.training.train import train

    config = make_config(tmp_path, tracking={"mlflow": {"uri": "http://127.0.0.1:9"}})
    result = train(config, None)
    assert result.adapter
    assert capsys.readouterr().out.count("tracking by MLflow failed") == 1
    assert [line for line in result.advice if "training went on without" in line.message]


def test_a_server_that_asks_for_patience_holds_nothing_up(make_config: Any, tmp_path: Path) -> None:
    from finetune_trainer.training.engines import load_engine

    load_engine()
    from finetune_trainer.training.tracking import trackers_of

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.send_header("Retry-After", "30")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_address[1]}"
        config = make_config(tmp_path, tracking={"mlflow": {"uri": uri}})
        trackers, began = trackers_of(config, tmp_path), time.monotonic()
        trackers.begin(3)
        assert time.monotonic() - began < 30
        server.shutdown()
    (lost,) = trackers.lost
    assert "API request to http://127.0.0.1:" in lost


def test_tracking_changes_no_digest(make_config: Any, tmp_path: Path) -> None:
    plain, tracked = make_config(tmp_path), make_config(tmp_path, tracking={"tensorBoard": True})
    assert plain.training_sha256 == tracked.training_sha256
