"""From an exception to a reason, an exit code and a line that says what to do."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator

from finetune_api.base import with_advice
from finetune_api.reasons import FAILURES, Reason, exit_code
from finetune_api.results import MAX_LOG, MAX_MESSAGE, FailureStatus

# A disk or a network that fails just now, which is nobody's fault.
PASSING = (errno.EIO, errno.ESTALE, errno.EINTR, errno.ETIMEDOUT)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOST = ("CUDA error", "CUDA driver error", "cudaError", "CUBLAS_STATUS_", "CUDNN_STATUS_", "NVML_ERROR")
_MODEL_TOO_LARGE = "does not fit in GPU memory"  # Unsloth's words when bitsandbytes would need the CPU's


class StageError(Exception):
    """A failure whose reason is known. The text says what was wrong and where, in one line.

    ``advice`` stands in for the reason's own where that would mislead.
    """

    def __init__(self, reason: Reason, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.advice = advice or FAILURES[reason].advice


def failure_of(error: BaseException) -> FailureStatus:
    """What status says about an exception that ended the stage."""
    known = _classify(error)
    return FailureStatus(
        reason=known.reason,
        message=with_advice(str(known), known.advice, MAX_MESSAGE),
        exit_code=exit_code(known.reason),
        log=_last_lines(error) if known.reason is Reason.TRAINER_CRASHED else None,
    )


def _classify(error: BaseException) -> StageError:
    for cause in causes(error):
        if isinstance(cause, StageError):
            return cause
        if isinstance(cause, KeyboardInterrupt):
            # By a person at a terminal: a cluster stops a pod by SIGTERM.
            again = "run it again: a training goes on from its last checkpoint"
            return StageError(Reason.INTERRUPTED, "stopped by Ctrl-C", again)
        if isinstance(cause, MemoryError):
            return StageError(Reason.OUT_OF_MEMORY, "host memory ran out: raise resources.limits.memory, too")
        if _MODEL_TOO_LARGE in str(cause):
            fact = first_line(cause).partition(", so ")[0]  # hints for callers of Unsloth follow
            return StageError(Reason.OUT_OF_MEMORY, fact, "take a smaller model or a larger GPU")
        if _is_gpu_out_of_memory(cause):
            return StageError(Reason.OUT_OF_MEMORY, f"GPU memory ran out: {gpu_sizes(cause)}")
        if _is_storage_full(cause):
            return StageError(Reason.STORAGE_FULL, f"no space left: {first_line(cause)}")
        if isinstance(cause, OSError) and cause.errno == errno.EROFS:
            return StageError(
                Reason.STORAGE_UNSUITABLE,
                f"a volume has turned read-only: {first_line(cause)}",
                "mend the volume, and apply under a new name: what was saved stays",
            )
        if _is_device_lost(cause):
            return StageError(Reason.DEVICE_LOST, f"the GPU failed: {first_line(cause)}")
    return StageError(Reason.TRAINER_CRASHED, f"{type(error).__name__}: {first_line(error)}")


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception itself and then what caused it, from the outside in."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _is_gpu_out_of_memory(error: BaseException) -> bool:
    # By name: torch may not have been imported yet. Others raise what they like with CUDA's words, such as
    # "CUDA error: out of memory" and "CUDA driver error: out of memory".
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()


def _is_device_lost(error: BaseException) -> bool:
    # After such an error every further call on the device fails as well.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _LOST)


def gpu_sizes(error: BaseException) -> str:
    """Who holds how much of the GPU; PyTorch's hints that follow are of no use in a pod."""
    return first_line(error).partition(" If reserved")[0].rstrip(".")


def _is_storage_full(error: BaseException) -> bool:
    # safetensors wraps the operating system's error in one of its own.
    return (isinstance(error, OSError) and error.errno in _FULL) or "No space left on device" in str(error)


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that isn't empty, or its type's name."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-MAX_LOG:]
