"""How the gateway says no."""

from __future__ import annotations

from http import HTTPStatus


class Refusal(Exception):
    """A push that is not taken: the HTTP status, one line for the reader of the trainer's log, when to try again."""

    def __init__(self, status: HTTPStatus, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after  # seconds


def unauthenticated(message: str) -> Refusal:
    """The token proves nothing: missing, malformed, expired, or signed by someone else."""
    return Refusal(HTTPStatus.UNAUTHORIZED, message)


def forbidden(message: str) -> Refusal:
    """The token is genuine, but its pod may not report for this job."""
    return Refusal(HTTPStatus.FORBIDDEN, message)


def unavailable(message: str) -> Refusal:
    """The API server, which has to be asked, does not answer."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, message, retry_after=5.0)
