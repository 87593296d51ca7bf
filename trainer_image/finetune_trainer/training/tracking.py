"""A training's course in TensorBoard, MLflow and W&B, through transformers' own integrations.

Import it after the engine, which changes transformers. A tracker that fails is left out: no record is worth a run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState
from transformers.integrations import MLflowCallback, TensorBoardCallback, WandbCallback

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.tracking import MLFLOW_KEYS, WANDB_KEYS, TrackingSpec
from finetune_trainer.sources.credentials import credentials_of
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import failure_of, first_line
from finetune_trainer.stage.files import write_text
from finetune_trainer.training.reporter import LoggedStep, Trackers
from finetune_trainer.training.stopping import Measured

# A server that is away keeps a GPU waiting for seconds, not for the minutes of the clients' own settings.
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # a server may ask for an hour
}
_WANDB = {
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_INIT_TIMEOUT": "30",
}
_NAMES = {"TensorBoard": TensorBoardCallback, "MLflow": MLflowCallback, "W&B": WandbCallback}


@dataclass(frozen=True)
class Settings:
    """What the integrations ask of TrainingArguments; a run's parameters are the spec's fields, none of a library's.

    The real ones would reset accelerate's state, which the engine has made.
    """

    output_dir: str
    run_name: str
    spec: Mapping[str, str | int | float]

    def to_dict(self) -> dict[str, str | int | float]:
        return dict(self.spec)

    to_sanitized_dict = to_dict

    def to_json_string(self) -> str:
        return json.dumps(self.spec, indent=2)


@dataclass
class Integrations(Trackers):
    """The trackers that a spec asks for."""

    settings: Settings
    mlflow_run: Path  # where the id that the server gave is kept for the next attempt
    state: Any = field(default_factory=TrainerState)
    callbacks: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def begin(self, total: int) -> None:
        """Opens them; a run that goes on is the same run to them."""
        self.state.is_world_process_zero, self.state.max_steps = True, total
        for name in list(self.callbacks):
            self._call(name, lambda one: one.on_train_begin(self.settings, self.state, TrainerControl()))
        if "MLflow" in self.callbacks and (run := _mlflow_run()):
            write_text(self.mlflow_run, run + "\n")
        if self.callbacks:
            say(f"tracking: {', '.join(self.callbacks)}")

    def step(self, entry: LoggedStep) -> None:
        """One step, under the names that transformers' trainer gives its logs."""
        logs = {
            "loss": entry.loss,
            "learning_rate": entry.learning_rate,
            "grad_norm": entry.gradient_norm,
            "epoch": entry.epoch,
            "num_input_tokens_seen": entry.tokens,
            "step_seconds": entry.seconds,
            "reserved_bytes": entry.reserved_bytes,
            "penalty": entry.penalty,
        }
        self._log(entry.step, logs)

    def measured(self, point: Measured) -> None:
        """Rows that are not trained on."""
        self._log(point.step, {"eval_loss": point.validation_loss, "eval_retention_perplexity": point.perplexity})

    def close(self, error: BaseException | None = None) -> None:
        """Closes them; a server shows a run that ``error`` ended as killed or failed until it goes on."""
        if error and "MLflow" in self.callbacks:
            import mlflow

            status = "KILLED" if failure_of(error).reason == Reason.INTERRUPTED else "FAILED"
            self._call("MLflow", lambda _: mlflow.end_run(status))
        for name in list(self.callbacks):
            self._call(name, lambda one: one.on_train_end(self.settings, self.state, TrainerControl()))
        if "W&B" in self.callbacks:
            import wandb

            self._call("W&B", lambda _: wandb.teardown(1 if error else 0))

    def _log(self, step: int, values: Mapping[str, float | None]) -> None:
        self.state.global_step = step
        logs = {name: value for name, value in values.items() if value is not None}
        for name in list(self.callbacks):
            self._call(name, lambda one: one.on_log(self.settings, self.state, TrainerControl(), logs=dict(logs)))

    def _call(self, name: str, action: Callable[[Any], object]) -> None:
        try:
            action(self.callbacks[name])
        except Exception as error:  # whatever a server or a library may say
            said = f"tracking by {name} failed ({type(error).__name__}: {first_line(error)}); training went on without"
            say(said)
            self.lost.append(said)
            del self.callbacks[name]


def trackers_of(config: RunConfig, folder: Path) -> Trackers:
    """What ``spec.tracking`` asks for, ready to begin. Sets the environment variables that the integrations read.

    Raises StageError (CredentialsRejected) for a Secret that holds none of the keys that a client knows.
    """
    tracking = config.spec.tracking
    names = _wanted(tracking)
    if not tracking or not names:
        return Trackers()
    mlflow_run = folder / "mlflow-run-id"
    os.environ.update(_environment(config, tracking, folder, mlflow_run))
    spec = {
        name: value if isinstance(value, str | int | float) else json.dumps(value)
        for section, fields in config.spec.to_api().items()
        if section in ("method", "model", "dataset", "lora", "training")
        for name, value in ({section: fields} if isinstance(fields, str) else _flat(section, fields)).items()
    }
    settings = Settings(str(folder), config.job.name, spec)
    return Integrations(settings, mlflow_run, callbacks={name: _NAMES[name]() for name in names})


def _wanted(tracking: TrackingSpec | None) -> list[str]:
    if not tracking:
        return []
    asked = {"TensorBoard": tracking.tensor_board, "MLflow": tracking.mlflow, "W&B": tracking.wandb}
    return [name for name, one in asked.items() if one]


def _flat(section: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for name, value in fields.items()}


def _environment(config: RunConfig, tracking: TrackingSpec, folder: Path, mlflow_run: Path) -> dict[str, str]:
    found = {"TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard")}
    if mlflow := tracking.mlflow:
        # Without a server MLflow keeps its runs as files; it asks to be told that this is meant.
        found |= {"MLFLOW_TRACKING_URI": mlflow.uri or (folder / "mlruns").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
        found |= {"MLFLOW_EXPERIMENT_NAME": mlflow.experiment or config.job.namespace}
        found |= {"MLFLOW_RUN_ID": run} if (run := _text_of(mlflow_run)) else {}
        found |= _MLFLOW
        if mlflow.secret_ref:
            found |= credentials_of(config, mlflow.secret_ref, MLFLOW_KEYS).values
    if wandb := tracking.wandb:
        found |= {"WANDB_PROJECT": wandb.project or config.job.namespace, "WANDB_DIR": str(folder)}
        # A name of ours, so that every attempt of a job is one run there, also after a kill.
        found |= {"WANDB_RUN_ID": f"{config.training_sha256[:12]}-{config.job.uid[:8]}", "WANDB_RESUME": "allow"}
        found |= {"WANDB_MODE": "online" if wandb.secret_ref else "offline"} | _WANDB
        if wandb.secret_ref:
            found |= credentials_of(config, wandb.secret_ref, WANDB_KEYS).values
    return found


def _text_of(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except OSError:
        return None


def _mlflow_run() -> str | None:
    import mlflow

    run = mlflow.active_run()
    return str(run.info.run_id) if run else None
