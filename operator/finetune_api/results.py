"""What a stage reports when it ends: the same models stand in the termination message, in result.json and in status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from finetune_api.base import ApiModel, Count, Number, Sha256, Short, StatusModel, Time, Word
from finetune_api.judge_status import JudgeStatus
from finetune_api.stages import TRAIN

# Those who read results find them here, too.
from finetune_api.values import Interval as Interval
from finetune_api.values import MetricValue as MetricValue

URI = Annotated[str, Field(max_length=1024)]
Text = Annotated[str, Field(max_length=512)]
MAX_MESSAGE = 1024
MAX_LOG = 2048
MAX_ADVICE = 8
MAX_SLICE_STATUSES = 16
# A name of 63 characters, '=', and a value.
MAX_SLICE_NAME = 128


class RowCount(StatusModel):
    """A number of rows under a name."""

    name: Word = Field(description="What they have in common.")
    rows: Count = Field(description="How many they are.")


_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class RowLengths(StatusModel):
    """Lengths of the examples in tokens, prompt and response together."""

    median: Count = Field(description="Half of them are at most so long.")
    percentile95: Count = Field(description="95% of them are at most so long.")
    longest: Count = Field(description="The longest.")


class DatasetStatus(StatusModel):
    """What was trained on, and what was left out of it."""

    summary: Short = Field(description="Such as '9,543 of 10,178 rows, 2.6M tokens'.")
    rows: Count = Field(description="Rows that were read.")
    examples: Count = Field(description="Examples that are trained on; a row with several of them counts each.")
    tokens: Count = Field(default=0, description="Tokens of all examples, each once.")
    response_tokens: Count = Field(default=0, description="Of these, tokens that count in the loss.")
    lengths: RowLengths | None = Field(default=None, description="Lengths of the examples.")
    dropped: list[RowCount] = Field(
        default=[],
        max_length=8,
        description="Rows left out, by the step that did it: Malformed, ExactDuplicate, NearDuplicate, TooLong, "
        "NoResponse, NotSampled (by weight), SetAside (for validation).",
        json_schema_extra=_BY_NAME,
    )
    sources: list[RowCount] = Field(
        default=[],
        max_length=9,
        description="Rows trained on by dataset: dataset, and the names of its mixture. Absent without a mixture.",
        json_schema_extra=_BY_NAME,
    )
    provenance: list[RowCount] = Field(
        default=[],
        max_length=8,
        description="Rows trained on by where they come from, such as Human or Synthetic; Unknown where nothing is "
        "said. Absent where nothing is said of any.",
        json_schema_extra=_BY_NAME,
    )
    validation_examples: Count | None = Field(
        default=None, description="Examples that are not trained on, but whose loss is measured on the way."
    )
    overlap: Count = Field(
        default=0, description="Held-out rows that a training row asks, too, exactly or nearly; they are not left out."
    )
    cached: bool = Field(default=False, description="Whether the prepared rows of an earlier run were taken.")
    report_uri: URI | None = Field(
        default=None, alias="reportURI", description="Where dataset.json lies: all counts, histograms, named rows."
    )


class RetentionPoint(StatusModel):
    """What the model still knew at a step."""

    step: Count = Field(description="Optimizer steps taken.")
    perplexity: Number = Field(description="Perplexity of the retention rows.")


class TrainingStatus(StatusModel):
    """What training came to."""

    steps: Count = Field(description="Optimizer steps taken.")
    first_loss: Number | None = Field(default=None, description="Loss of the first logged step.")
    final_loss: Number | None = Field(default=None, description="Loss of the last logged step.")
    validation_loss: Number | None = Field(
        default=None, description="Loss of the validation rows with the weights that were saved."
    )
    best_step: Count | None = Field(
        default=None, description="Step whose weights were saved: the best by validation loss, with earlyStopping."
    )
    stopped_early: bool | None = Field(
        default=None, description="Whether earlyStopping ended the training; absent without it."
    )
    retention: list[RetentionPoint] = Field(
        default=[],
        max_length=16,
        description="Perplexity of the retention rows before training, at evaluations on the way, and after it.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    final_gradient_norm: Number | None = Field(
        default=None, description="Norm of the gradient at the last logged step, before clipping."
    )
    resumed_from_step: Count = Field(
        default=0, description="Step of the checkpoint that the last attempt went on from; 0: it began anew."
    )
    runtime_seconds: Count = Field(description="Wall-clock seconds of training over all attempts, without loading.")
    runtime: Short | None = Field(default=None, description="The same for people, such as '1m 42s'.")
    trained_tokens: Count = Field(default=0, description="Tokens that went through the model.")
    examples_seen: Count = Field(default=0, description="Rows that went through the model, repeats counted.")
    dropped_examples: Count = Field(default=0, description="Rows left out: too long, or without a response token.")
    trainable_parameters: Count = Field(default=0, description="Parameters of the adapter.")
    total_parameters: Count = Field(default=0, description="Parameters of base model and adapter.")
    micro_batch_size: Count = Field(default=0, description="Examples per forward pass that the trainer chose.")
    out_of_memory_retries: Count | None = Field(
        default=None,
        description="How often GPU memory ran out and a step began anew with half as many examples per pass; "
        "unset: never.",
    )
    warmup_steps: Count = Field(default=0, description="Steps of linear warm-up that were taken.")
    gradient_checkpointing: Short | None = Field(default=None, description="How the trainer kept activations.")
    optimizer: Short | None = Field(default=None, description="Optimizer that ran: AdamW8bit becomes AdamW on a CPU.")
    dtype: Short | None = Field(default=None, description="Type that training computed in.")
    attention: Short | None = Field(default=None, description="Attention kernel that ran, such as cuDNN.")
    engine: Short | None = Field(default=None, description="What ran the training step, such as Unsloth.")
    packing: Short | None = Field(
        default=None, description="Whether examples of a step shared sequences: Enabled, or Disabled and why."
    )
    metrics_uri: URI | None = Field(
        default=None, alias="metricsURI", description="Where metrics.jsonl lies: a line a step."
    )

    @property
    def retention_when_saved(self) -> RetentionPoint | None:
        """What the weights that were saved still know: those of bestStep, where earlyStopping chose it."""
        points = self.retention
        return next((one for one in points if one.step == self.best_step), points[-1]) if points else None


class DeviceMemory(StatusModel):
    """Memory of one GPU, in bytes."""

    name: Short = Field(description="The device's own name.")
    total_bytes: Count = Field(description="Memory of the device.")
    reserved_before_bytes: Count = Field(description="Reserved by PyTorch before training, model loaded.")
    peak_reserved_bytes: Count = Field(description="Peak reserved during training, the counter reset before.")
    peak_for_training_bytes: Count = Field(description="Peak minus what was reserved before.")
    reserved_after_bytes: Count = Field(default=0, description="Reserved after training.")
    peak_percent: Number = Field(description="Peak as a percentage of the device's memory.")


class HostMemory(StatusModel):
    """Memory of the trainer's process on the host, in bytes."""

    before_bytes: Count = Field(description="Resident before training, model loaded.")
    peak_bytes: Count = Field(description="Peak resident set size of the process.")
    limit_bytes: Count | None = Field(default=None, description="The container's memory limit, where there is one.")


class MemoryStatus(StatusModel):
    """Peak memory of training."""

    summary: Short = Field(description="Peak over total, such as '1.3/79 GiB (1.7%)'; on a CPU, host memory.")
    devices: list[DeviceMemory] = Field(
        default=[],
        max_length=16,
        description="One entry per GPU.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    host: HostMemory | None = Field(default=None, description="The trainer's process.")


class ArtefactStatus(StatusModel):
    """Where an artefact lies and how to know that it is whole."""

    uri: URI = Field(description="Where it lies.")
    sha256: Sha256 = Field(description="Digest of its manifest, which lists every file's digest.")
    size_bytes: Count = Field(description="Size of all files.")
    files: Count = Field(description="Number of files.")


class AdapterStatus(ArtefactStatus):
    """The adapter."""


class ModelStatus(ArtefactStatus):
    """The whole model in 16 bit."""

    dtype: Short = Field(description="Type of its weights.")


class DatasetRevision(StatusModel):
    """The commit of a hub dataset."""

    name: Word = Field(description="The dataset's name in the mixture.")
    revision: Short = Field(description="Its commit.")


class RowsRevision(StatusModel):
    """What the rows of a slice were."""

    name: Word = Field(description="The slice's name.")
    revision: Short | None = Field(default=None, description="Commit of a hub dataset.")
    sha256: Sha256 = Field(description="Digest of its rows as read, in order.")


class LineageStatus(StatusModel):
    """What the run was made from. What ran it stands in status.stages[].lineage."""

    model_revision: Short | None = Field(default=None, description="Commit of a hub model.")
    model_sha256: Sha256 | None = Field(
        default=None, description="Fingerprint of a pvc:// model: names, sizes and content of its weights and settings."
    )
    adapter_revision: Short | None = Field(
        default=None, description="Commit of a hub adapter that was continued from, or evaluated alone."
    )
    adapter_sha256: Sha256 | None = Field(
        default=None, description="Fingerprint of such an adapter on a claim or in a bucket."
    )
    dataset_revision: Short | None = Field(default=None, description="Commit of a hub dataset.")
    mixture: list[DatasetRevision] = Field(
        default=[],
        max_length=8,
        description="Commits of further hub datasets: of a mixture, and of replay, validation and retention rows.",
        json_schema_extra=_BY_NAME,
    )
    dataset_sha256: Sha256 | None = Field(
        default=None, description="Digest of the training rows as read, in order, of all datasets."
    )
    validation_dataset_sha256: Sha256 | None = Field(
        default=None, description="Digest of validation rows with a source of their own, as read, in order."
    )
    retention_dataset_sha256: Sha256 | None = Field(
        default=None, description="Digest of the retention rows as read, in order."
    )
    evaluation_dataset_revision: Short | None = Field(default=None, description="Commit of a held-out hub dataset.")
    evaluation_dataset_sha256: Sha256 | None = Field(
        default=None, description="Digest of the held-out rows as read, in order."
    )
    compared_reports_sha256: Sha256 | None = Field(
        default=None, description="Digest of the reports that gates compare with."
    )
    check_terms_sha256: Sha256 | None = Field(
        default=None, description="Digest of the terms that checks read from files, by check, in order."
    )
    slices: list[RowsRevision] = Field(
        default=[],
        max_length=8,
        description="Slices of the evaluation with rows of their own.",
        json_schema_extra=_BY_NAME,
    )
    seed: Count | None = Field(default=None, description="spec.training.seed. Absent where nothing was trained.")
    training_sha256: Sha256 | None = Field(
        default=None,
        description="Digest of method, model, dataset, lora and training: it names the adapter. Without dataset of "
        "method, model and lossOn: it names what was evaluated.",
    )
    evaluation_sha256: Sha256 | None = Field(
        default=None, description="Digest of trainingSha256 and evaluation: it names the report."
    )


class StageLineage(StatusModel):
    """What ran a stage."""

    image: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Image of the trainer, by digest where the node says so."
    )
    profile_sha256: Sha256 | None = Field(default=None, description="Digest of the administrator's profile.")
    trainer_version: Short | None = Field(default=None, description="Version of the trainer's package.")
    packages: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Versions of torch, transformers, trl, peft, unsloth, bitsandbytes."
    )
    device: Short | None = Field(default=None, description="What it computed on.")


class PairedTest(StatusModel):
    """Whether tuned differs from base by more than chance, on the same rows."""

    name: Short = Field(description="The test, such as 'McNemar exact'.")
    base_only: Count = Field(description="Rows that only the base model had right.")
    tuned_only: Count = Field(description="Rows that only the tuned model had right.")


class MetricStatus(StatusModel):
    """One metric of base and tuned on the held-out rows."""

    name: Word = Field(description="As in spec.evaluation.metrics, or that of one of spec.evaluation.checks.")
    base: MetricValue | None = Field(default=None, description="The base model, without the adapter.")
    tuned: MetricValue | None = Field(default=None, description="The tuned model.")
    difference: Number | None = Field(default=None, description="Tuned minus base.")
    p_value: Number | None = Field(
        default=None, description="Two-sided p-value: of pairedTest, or of the test that the report defines."
    )
    adjusted_p_value: Number | None = Field(
        default=None, description="Of a slice: pValue adjusted for the number of slices (Holm 1979)."
    )
    paired_test: PairedTest | None = Field(default=None, description="Base against tuned, row by row.")
    examples: Count | None = Field(default=None, description="Rows that it counts, where these are not all.")
    omitted: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="Why the metric has no value on these rows."
    )


class Answer(StatusModel):
    """A model's answer in words, cut to fit; the report has it whole."""

    text: Text = Field(description="What the model said.")
    names: Word | None = Field(
        default=None,
        description="What the answer names: Option (one that is there), NoSuchOption (an invented one), or Nothing "
        "(none, or it was cut). Absent where the row has no options.",
    )
    option: Annotated[str, Field(max_length=16)] | None = Field(
        default=None, description="Letter of the option that it names."
    )
    right: bool | None = Field(default=None, description="Whether that is the right one.")


class SampleAnswer(StatusModel):
    """One prompt answered by both models."""

    name: Word | None = Field(default=None, description="Of a prompt of spec.evaluation.prompts: its name.")
    prompt: Text = Field(description="The question.")
    # Required, since older readers take it for granted.
    expected: Annotated[str, Field(max_length=256)] = Field(
        description="The right response; empty for a prompt of spec.evaluation.prompts, of which nothing is expected."
    )
    base: Answer | None = Field(default=None, description="The base model's answer.")
    tuned: Answer | None = Field(default=None, description="The tuned model's answer.")


class RetentionStatus(StatusModel):
    """Base against tuned on rows of a general dataset."""

    examples: Count = Field(description="Rows scored.")
    metrics: list[MetricStatus] = Field(
        default=[],
        max_length=8,
        description="Perplexity, and accuracy where rows have options.",
        json_schema_extra=_BY_NAME,
    )


class SliceStatus(StatusModel):
    """Base against tuned on some of the rows."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_SLICE_NAME)] = Field(
        description="As in spec.evaluation.slices; where a column makes the slices, <name>=<value>."
    )
    examples: Count = Field(description="Rows scored.")
    metrics: list[MetricStatus] = Field(
        default=[],
        max_length=32,
        description="In status the first of spec.evaluation.metrics that has a value; the report has all.",
        json_schema_extra=_BY_NAME,
    )
    warning: Short | None = Field(default=None, description="What to mind, where the rows are few.")


def metrics_of_slice(slices: Sequence[SliceStatus], name: str) -> list[MetricStatus] | None:
    """The metrics of the slice of a name, such as edge-cases or topic=Cardiology; None where there is no such slice."""
    return next((one.metrics for one in slices if one.name == name), None)


class LatencyStatus(StatusModel):
    """How fast one model answered on the evaluation's device, one prompt at a time, by plain transformers."""

    name: Word = Field(description="Base, Tuned (the adapter beside the base's weights), or Merged (within them).")
    precision: Short = Field(description="Of the base's weights, such as NF4 or bfloat16.")
    first_token_milliseconds: Number = Field(description="From a prompt to its answer's first token, median.")
    tokens_per_second: Number = Field(description="Of the tokens after it, median.")


class GateStatus(StatusModel):
    """What became of one of spec.evaluation.gates."""

    metric: Word = Field(description="As in the spec.")
    verdict: Word = Field(description="Passed, Failed, or Inconclusive: the rows are too few to tell.")
    message: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="The figures, with their intervals; report.json has them whole."
    )


class EvaluationStatus(StatusModel):
    """Base against tuned on the held-out rows."""

    summary: Short = Field(description="The first metric of base and tuned, such as '0.41→0.45'.")
    examples: Count = Field(description="Rows scored (n).")
    dropped_examples: Count = Field(
        default=0, description="Held-out rows left out: longer than the context, or without a response to score."
    )
    shared_examples: Count | None = Field(
        default=None,
        description="Held-out rows whose question is among the training rows. Absent of a job that only evaluates: "
        "which rows the adapter was trained on is not known.",
    )
    metrics: list[MetricStatus] = Field(
        default=[],
        max_length=32,
        description="One entry per metric, in the order of the spec, then one per check.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    retention: RetentionStatus | None = Field(default=None, description="What became of the retention rows.")
    slices: list[SliceStatus] = Field(
        default=[],
        max_length=MAX_SLICE_STATUSES,
        description="The same on some of the rows; of more than 16 slices those with rows of their own, then those "
        "with the most rows.",
        json_schema_extra=_BY_NAME,
    )
    latency: list[LatencyStatus] = Field(
        default=[], max_length=3, description="How fast each model answers.", json_schema_extra=_BY_NAME
    )
    gates: list[GateStatus] = Field(
        default=[],
        max_length=8,
        description="What became of the gates, in the order of the spec.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    judge: JudgeStatus | None = Field(default=None, description="What a language model thinks of the answers.")
    runtime_seconds: Count = Field(default=0, description="Wall-clock seconds, without loading.")
    samples: list[SampleAnswer] = Field(
        default=[],
        max_length=3,
        description="Prompts answered by both: those of spec.evaluation.prompts first, then held-out rows.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    report_uri: URI | None = Field(default=None, alias="reportURI", description="Where report.json lies.")
    page_uri: URI | None = Field(
        default=None, alias="pageURI", description="Where the same lies as a page for people, report.html."
    )

    def metric(self, name: str) -> MetricStatus | None:
        """The entry of a metric, if it is there."""
        return next((metric for metric in self.metrics if metric.name == name), None)


class Advice(StatusModel):
    """Something that a careful user would want to know; it stops nothing."""

    reason: Word = Field(description="One word for tools.")
    message: Annotated[str, Field(max_length=512)] = Field(description="What was seen, and what to do about it.")


class FailureStatus(StatusModel):
    """Why a stage ended without a result."""

    reason: Word = Field(description="One word for tools; docs/failure-reasons.md lists them.")
    message: Annotated[str, Field(max_length=MAX_MESSAGE)] = Field(
        description="What was wrong, where, and what to do next."
    )
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = Field(
        default=None, description="Exit code of the container."
    )
    log: Annotated[str, Field(max_length=MAX_LOG)] | None = Field(
        default=None, description="The last lines of the log."
    )


class StageResult(ApiModel):
    """The termination message of a stage's pod, and result.json beside its artefacts.

    Exactly one of ``failure`` and the stage's own sections is set. ``job_uid`` and the digests say which object and
    which spec it belongs to, so that a late message never lands on a namesake.
    """

    version: Literal[1] = Field(default=1, description="Of this form.")
    stage: Word = Field(description="The stage: Train, Evaluate.")
    job_uid: Annotated[str, Field(max_length=64)] = Field(alias="jobUID", description="UID of the FineTuneJob.")
    training_sha256: Sha256 = Field(description="Digest that names the adapter.")
    evaluation_sha256: Sha256 | None = Field(
        default=None, description="Digest that names the report; of an evaluation."
    )
    finished_at: Time = Field(description="When the stage ended.")
    reused: bool = Field(
        default=False, description="Whether the artefacts are those of an identical job: nothing was computed."
    )
    dataset: DatasetStatus | None = Field(default=None, description="As status.dataset.")
    training: TrainingStatus | None = Field(default=None, description="As status.training.")
    memory: MemoryStatus | None = Field(default=None, description="As status.memory.")
    adapter: AdapterStatus | None = Field(default=None, description="As status.adapter.")
    model: ModelStatus | None = Field(default=None, description="As status.model.")
    evaluation: EvaluationStatus | None = Field(default=None, description="As status.evaluation.")
    lineage: LineageStatus | None = Field(default=None, description="As status.lineage.")
    stage_lineage: StageLineage | None = Field(default=None, description="As status.stages[].lineage.")
    advice: Annotated[list[Advice], Field(max_length=MAX_ADVICE)] = Field(default=[], description="As status.advice.")
    failure: FailureStatus | None = Field(default=None, description="As status.failure; then no section is set.")

    def belongs_to(self, stage: str, job_uid: str, training_sha256: str, evaluation_sha256: str | None) -> bool:
        """Whether this is the result of a stage of one object with these digests."""
        same_run = (self.stage, self.job_uid, self.training_sha256) == (stage, job_uid, training_sha256)
        return same_run and (stage == TRAIN.name or self.evaluation_sha256 == evaluation_sha256)
