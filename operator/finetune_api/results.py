"""What a stage reports when it ends: the same models stand in the termination message, in result.json and in status."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_api.base import ApiModel, Number, Sha256, Time
from finetune_api.reasons import Reason

Short = Annotated[str, Field(max_length=256)]
URI = Annotated[str, Field(max_length=1024)]
# The largest integer that every JSON reader keeps exactly (RFC 8259, section 6).
MAX_COUNT = 2**53 - 1
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Stage = Literal["Train", "Evaluate"]


class TrainingStatus(ApiModel):
    """What training came to."""

    steps: Count = Field(description="Optimizer steps taken.")
    first_loss: Number | None = Field(default=None, description="Loss of the first logged step.")
    final_loss: Number | None = Field(default=None, description="Loss of the last logged step.")
    runtime_seconds: Count = Field(description="Wall-clock seconds of training, without loading.")
    runtime: Short = Field(default="", description="The same for people, such as '1m 42s'.")
    trained_tokens: Count = Field(default=0, description="Tokens that went through the model.")
    examples_seen: Count = Field(default=0, description="Rows that went through the model, repeats counted.")
    dropped_examples: Count = Field(default=0, description="Rows left out: too long, or without a response token.")
    trainable_parameters: Count = Field(default=0, description="Parameters of the adapter.")
    total_parameters: Count = Field(default=0, description="Parameters of base model and adapter.")
    micro_batch_size: Count = Field(default=0, description="Examples per forward pass that the trainer chose.")
    gradient_checkpointing: Short = Field(default="", description="How the trainer kept activations.")
    optimizer: Short = Field(default="", description="Optimizer that ran: AdamW8bit becomes AdamW on a CPU.")
    dtype: Short = Field(default="", description="Type that training computed in.")
    engine: Short = Field(default="Unsloth", description="What ran the training step.")


class DeviceMemory(ApiModel):
    """Memory of one GPU, in bytes."""

    name: Short = Field(description="The device's own name.")
    total_bytes: Count = Field(description="Memory of the device.")
    reserved_before_bytes: Count = Field(description="Reserved by PyTorch before training, model loaded.")
    peak_reserved_bytes: Count = Field(description="Peak reserved during training, the counter reset before.")
    peak_for_training_bytes: Count = Field(description="Peak minus what was reserved before.")
    reserved_after_bytes: Count = Field(default=0, description="Reserved after training.")
    peak_percent: Number = Field(description="Peak as a percentage of the device's memory.")


class HostMemory(ApiModel):
    """Memory of the trainer's process on the host, in bytes."""

    before_bytes: Count = Field(description="Resident before training, model loaded.")
    peak_bytes: Count = Field(description="Peak resident set size of the process.")
    limit_bytes: Count | None = Field(default=None, description="The container's memory limit, where there is one.")


class MemoryStatus(ApiModel):
    """Peak memory of training."""

    summary: Short = Field(description="Peak over total, such as '1.3/79 GiB (1.7%)'; on a CPU, host memory.")
    devices: list[DeviceMemory] = Field(default=[], max_length=16, description="One entry per GPU.")
    host: HostMemory | None = Field(default=None, description="The trainer's process.")


class AdapterStatus(ApiModel):
    """Where the adapter lies and how to know that it is whole."""

    uri: URI = Field(description="Where the adapter lies.")
    sha256: Sha256 = Field(description="Digest of its manifest, which lists every file's digest.")
    size_bytes: Count = Field(description="Size of all files.")
    files: Count = Field(description="Number of files.")


class LineageStatus(ApiModel):
    """What it would take to repeat the run."""

    model_revision: Short = Field(default="", description="Commit of a hub model; empty for a pvc:// source.")
    dataset_revision: Short = Field(default="", description="Commit of a hub dataset; empty for a pvc:// source.")
    dataset_sha256: Sha256 | None = Field(default=None, description="Digest of the training rows as read.")
    evaluation_sha256: Sha256 | None = Field(default=None, description="Digest of the evaluation rows as read.")
    image: Annotated[str, Field(max_length=512)] = Field(default="", description="Image of the trainer, by digest.")
    profile_sha256: Sha256 | None = Field(default=None, description="Digest of the administrator's profile.")
    trainer_version: Short = Field(default="", description="Version of the trainer's package.")
    packages: Annotated[str, Field(max_length=512)] = Field(
        default="", description="Versions of torch, transformers, trl, peft, unsloth, bitsandbytes."
    )
    seed: Count = Field(default=0, description="spec.training.seed.")
    spec_sha256: Sha256 | None = Field(default=None, description="Digest of the spec's immutable fields.")


class Interval(ApiModel):
    """A 95% Wilson score interval (Wilson 1927) of a proportion."""

    low: Number = Field(description="Lower end.")
    high: Number = Field(description="Upper end.")


class ModelScores(ApiModel):
    """Scores of one model on the held-out rows. Accuracies are proportions from 0 to 1."""

    accuracy: Number | None = Field(default=None, description="By the likeliest option; see spec.evaluation.metrics.")
    accuracy_interval95: Interval | None = Field(default=None, description="95% Wilson interval of accuracy.")
    letter_accuracy: Number | None = Field(default=None, description="By the likeliest letter.")
    letter_accuracy_interval95: Interval | None = Field(default=None, description="95% Wilson interval of it.")
    perplexity: Number | None = Field(default=None, description="Of the right responses, per token.")


class PairedTest(ApiModel):
    """Whether tuned differs from base by more than chance, on the same rows."""

    name: Short = Field(default="McNemar exact", description="The test.")
    base_only: Count = Field(description="Rows that only the base model had right.")
    tuned_only: Count = Field(description="Rows that only the tuned model had right.")
    p_value: Number = Field(description="Two-sided p-value.")


class SampleAnswer(ApiModel):
    """One prompt answered by both models. Texts are cut to fit; report.json has them whole."""

    prompt: Annotated[str, Field(max_length=512)] = Field(description="The question.")
    expected: Annotated[str, Field(max_length=256)] = Field(description="The right response.")
    base: Annotated[str, Field(max_length=512)] = Field(default="", description="The base model's answer.")
    tuned: Annotated[str, Field(max_length=512)] = Field(default="", description="The tuned model's answer.")
    base_invented: bool = Field(default=False, description="The base model named an option that is not there.")
    tuned_invented: bool = Field(default=False, description="The tuned model named an option that is not there.")


class EvaluationStatus(ApiModel):
    """Base against tuned on the held-out rows."""

    summary: Short = Field(description="Accuracy of base and tuned, such as '0.41→0.45'.")
    examples: Count = Field(description="Rows scored (n).")
    base: ModelScores | None = Field(default=None, description="The base model, its adapter disabled.")
    tuned: ModelScores = Field(description="The tuned model.")
    paired_test: PairedTest | None = Field(default=None, description="Base against tuned, row by row.")
    runtime_seconds: Count = Field(default=0, description="Wall-clock seconds, without loading.")
    samples: list[SampleAnswer] = Field(default=[], max_length=3, description="Prompts answered by both.")
    report_uri: Annotated[str, Field(max_length=1024, alias="reportURI")] = Field(
        default="", alias="reportURI", description="Where report.json lies."
    )


class FailureStatus(ApiModel):
    """Why a stage ended without a result."""

    reason: Reason = Field(description="One word for tools.")
    message: Annotated[str, Field(max_length=1024)] = Field(description="What was wrong, where, and what to do next.")
    exit_code: int | None = Field(default=None, ge=0, le=255, description="Exit code of the container.")
    log: Annotated[str, Field(max_length=2048)] = Field(default="", description="The last lines of the log.")


class StageResult(ApiModel):
    """The termination message of a stage's pod, and result.json beside its artefacts.

    Exactly one of ``failure`` and the stage's own sections is set. ``job_uid`` and ``spec_sha256`` say which object and
    which spec it belongs to, so that a late message never lands on a namesake.
    """

    version: Literal[1] = 1
    stage: Stage
    job_uid: Annotated[str, Field(max_length=64, alias="jobUID")]
    spec_sha256: Sha256
    finished_at: Time
    training: TrainingStatus | None = None
    memory: MemoryStatus | None = None
    adapter: AdapterStatus | None = None
    evaluation: EvaluationStatus | None = None
    lineage: LineageStatus | None = None
    failure: FailureStatus | None = None
