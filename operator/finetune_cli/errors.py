"""What can go wrong between the command line and the API server, as one line for people."""

from __future__ import annotations

import http
import json
import ssl

import urllib3
from kubernetes.client import ApiException
from pydantic import ValidationError

from finetune_api.base import first_problem
from finetune_api.names import API_VERSION, KIND


class CliError(Exception):
    """Ends the command. The message says what was wrong, where, and what to do next."""


def is_transient(error: Exception) -> bool:
    """Whether asking again may help: a lost connection, an expired watch, a busy or restarting API server."""
    if isinstance(error, ApiException):
        return error.status in (http.HTTPStatus.GONE, http.HTTPStatus.TOO_MANY_REQUESTS) or (error.status or 0) >= 500
    return isinstance(error, urllib3.exceptions.HTTPError) and not _is_certificate_error(error)


def explain(error: Exception, server: str) -> str:
    """One line for an error of the Kubernetes client."""
    if isinstance(error, ApiException):
        return _explain_answer(error, server)
    cause = _root_cause(error)
    if _is_certificate_error(error):
        return f"{server} has a certificate that the kubeconfig does not trust: {cause}"
    return f"can't reach the API server {server}: {cause}; check the kubeconfig and its current context"


def explain_object(error: ValidationError, where: str) -> str:
    """One line for an object that does not fit the models."""
    return f"can't read {where}: {first_problem(error)}; a newer operator may need a newer kubectl-finetune"


def _explain_answer(error: ApiException, server: str) -> str:
    message = _message_of(error)
    match error.status:
        case http.HTTPStatus.UNAUTHORIZED:
            return f"{server} does not accept the kubeconfig's credentials ({message}); log in again"
        case http.HTTPStatus.NOT_FOUND:
            return f"{server} knows no {KIND} of {API_VERSION}: install the operator's CRD, or choose another --context"
        case _:
            return f"{server} refused: {message}"


def _message_of(error: ApiException) -> str:
    """The message of a metav1.Status body, or else the HTTP reason."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or error.status)


def _root_cause(error: BaseException) -> BaseException:
    inner = getattr(error, "reason", None) or error.__cause__
    return _root_cause(inner) if isinstance(inner, BaseException) else error


def _is_certificate_error(error: Exception) -> bool:
    return isinstance(_root_cause(error), ssl.SSLCertVerificationError)
