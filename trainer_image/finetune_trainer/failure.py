"""From an exception to a reason, an exit code and a line that says what to do."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator

from finetune_api.reasons import FAILURES, Reason, exit_code
from finetune_api.results import FailureStatus

MESSAGE_LENGTH = 1024
LOG_LENGTH = 2048
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StageError(Exception):
    """A failure whose reason is known. The text says what was wrong and where, in one line."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def failure_of(error: BaseException) -> FailureStatus:
    """What status says about an exception that ended the stage."""
    reason, message = _classify(error)
    advice = f"; {FAILURES[reason].advice}"
    return FailureStatus(
        reason=reason,
        message=cut(message, MESSAGE_LENGTH - len(advice)) + advice,
        exit_code=exit_code(reason),
        log=_last_lines(error) if reason is Reason.TRAINER_CRASHED else "",
    )


def cut(text: str, length: int) -> str:
    """The text, shortened to a length in characters; what is missing shows as '…'."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _classify(error: BaseException) -> tuple[Reason, str]:
    for cause in _chain(error):
        if isinstance(cause, StageError):
            return cause.reason, str(cause)
        if isinstance(cause, KeyboardInterrupt):
            return Reason.INTERRUPTED, "interrupted"
        if _is_gpu_out_of_memory(cause):
            return Reason.OUT_OF_MEMORY, f"GPU memory ran out: {_sizes(cause)}"
        if isinstance(cause, MemoryError):
            return Reason.OUT_OF_MEMORY, "host memory ran out: raise resources.limits.memory, too"
        if _is_storage_full(cause):
            return Reason.STORAGE_FULL, f"no space left: {_first_line(cause)}"
    return Reason.TRAINER_CRASHED, f"{type(error).__name__}: {_first_line(error)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _is_gpu_out_of_memory(error: BaseException) -> bool:
    # By name: torch may not have been imported yet, and bitsandbytes raises a RuntimeError with CUDA's words.
    return type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in str(error)


def _sizes(error: BaseException) -> str:
    """Who holds how much of the GPU; PyTorch's hints that follow are of no use in a pod."""
    return _first_line(error).partition(" If reserved")[0].rstrip(".")


def _is_storage_full(error: BaseException) -> bool:
    # safetensors wraps the operating system's error in one of its own.
    return (isinstance(error, OSError) and error.errno in _FULL) or "No space left on device" in str(error)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-LOG_LENGTH:]
