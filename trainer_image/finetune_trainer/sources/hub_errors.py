"""Whether a failed load is the source's fault, or the hub's and the network's, which the next attempt may not meet."""

from __future__ import annotations

from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import causes, failure_of, first_line

_BUSY = 429
_BROKEN_PICKLE = "PytorchStreamReader failed"  # the start of PyTorch's RuntimeError for a .bin file that is no archive
_GATED = "is a gated dataset on the Hub"  # of datasets, which loses the hub's own error on its way
_UNSLOTH_WRAPPER = "Unsloth: Failed to load model."  # its cause says it better


def is_passing(error: BaseException, offline: bool) -> bool:
    """True when a lost connection or a busy hub lies behind an exception.

    ``offline`` says that the hub is off on purpose, so that what isn't in the cache stays away.
    """
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    not_reached = False
    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError):
            return cause.response.status_code == _BUSY or cause.response.status_code >= 500
        if isinstance(cause, (httpx.TransportError, ConnectionError, TimeoutError)):
            return not (offline or isinstance(cause, OfflineModeIsEnabled))
        not_reached |= isinstance(cause, LocalEntryNotFoundError)
    return not_reached and not offline


def rejected_status(error: BaseException) -> int | None:
    """The hub's 401 or 403 behind an exception, by which it wants another token."""
    from huggingface_hub.errors import HfHubHTTPError

    if _GATED in str(error):
        return 401 if "authenticated" in str(error) else 403
    codes = [cause.response.status_code for cause in causes(error) if isinstance(cause, HfHubHTTPError)]
    return next((code for code in codes if code in (401, 403)), None)


def is_elsewhere(error: BaseException, offline: bool) -> bool:
    """True when the source isn't to blame: also for memory and storage that ran out."""
    return is_passing(error, offline) or failure_of(error).reason != Reason.TRAINER_CRASHED


def config_fault(error: BaseException, offline: bool) -> str:
    """What is wrong with a model whose configuration can't be read, in one line; empty when the fault is elsewhere."""
    return "" if is_elsewhere(error, offline) else _line(error)


def model_fault(error: BaseException, offline: bool) -> str:
    """What is wrong with a model that can't be loaded, in one line; empty when the fault is or may be elsewhere."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    # transformers raises a plain OSError without a number. The operating system's has one.
    plain = type(error) is OSError and error.errno is None
    # A file that the index names and nobody put there. The hub's own errors are subclasses.
    missing = type(error) is FileNotFoundError
    wrapped = str(error).startswith((_UNSLOTH_WRAPPER, _BROKEN_PICKLE))
    if plain or missing or wrapped or isinstance(error, (HfHubHTTPError, EntryNotFoundError, ValueError)):
        return config_fault(error, offline)
    return ""


def _inner(error: BaseException) -> BaseException:
    return next((cause for cause in causes(error) if not str(cause).startswith(_UNSLOTH_WRAPPER)), error)


def _line(error: BaseException) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    statuses = [cause.response.status_code for cause in causes(error) if isinstance(cause, HfHubHTTPError)]
    return first_line(_inner(error)) + (f" (HTTP {statuses[0]})" if statuses else "")
