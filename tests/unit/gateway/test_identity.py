"""Who may report for which job: (claims, pod, Job) → a reporter or a refusal."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import pytest

from finetune_api import names
from finetune_operator.gateway.identity import (
    JobKey,
    Reporter,
    batch_job_of,
    bound_pod,
    job_of,
    parse_claims,
    reporter_of,
)
from finetune_operator.gateway.refusal import Refusal
from finetune_operator.workload.objects import Metadata

CLAIMS: dict[str, Any] = {
    "aud": ["finetune.dev/ml/medqa/uid-1"],
    "sub": "system:serviceaccount:ml:default",
    "kubernetes.io": {"namespace": "ml", "pod": {"name": "medqa-train-a", "uid": "pod-a"}},
}
POD: dict[str, Any] = {
    "namespace": "ml",
    "name": "medqa-train-a",
    "uid": "pod-a",
    "creationTimestamp": "2026-01-01T08:00:00Z",
    "labels": {names.JOB_LABEL: "medqa", names.JOB_UID_LABEL: "uid-1", names.STAGE_LABEL: "train"},
    "ownerReferences": [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "medqa-train", "uid": "batch-1", "controller": True}
    ],
}
BATCH_JOB: dict[str, Any] = {
    "namespace": "ml",
    "name": "medqa-train",
    "uid": "batch-1",
    "creationTimestamp": "2026-01-01T07:59:59Z",
    "ownerReferences": [
        {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "medqa", "uid": "uid-1", "controller": True}
    ],
}


def with_labels(**labels: str) -> dict[str, Any]:
    """The pod with labels changed, by the last part of their name."""
    return POD | {"labels": POD["labels"] | {f"{names.GROUP}/{key.replace('_', '-')}": labels[key] for key in labels}}


def with_owner(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An object with its owner reference changed."""
    return document | {"ownerReferences": [document["ownerReferences"][0] | changes]}


def with_claims(**changes: Any) -> dict[str, Any]:
    """The claims with changed Kubernetes claims, without those set to None."""
    claims = CLAIMS["kubernetes.io"] | changes
    return CLAIMS | {"kubernetes.io": {key: value for key, value in claims.items() if value is not None}}


def identify(claims: dict[str, Any] = CLAIMS, pod: dict[str, Any] = POD, job: dict[str, Any] = BATCH_JOB) -> Reporter:
    """The whole chain for a push to ml/medqa."""
    parsed = parse_claims(claims)
    key, bound = job_of(parsed, "ml", "medqa"), bound_pod(parsed)
    meta = Metadata.model_validate(pod)
    batch_job_of(meta, bound, key)
    return reporter_of(meta, Metadata.model_validate(job), key)


def test_a_pod_of_the_jobs_own_job_may_report() -> None:
    key = JobKey("ml", "medqa", "uid-1")
    created = datetime(2026, 1, 1, 8, tzinfo=UTC)
    assert identify() == Reporter(key, "Train", "medqa-train-a", "pod-a", created, "batch-1")


def test_the_evaluators_pod_reports_for_its_stage() -> None:
    assert identify(pod=with_labels(stage="evaluate")).stage == "Evaluate"


FORBIDDEN: list[tuple[str, dict[str, dict[str, Any]], str]] = [
    ("another namespace", {"claims": with_claims(namespace="other")}, "of namespace 'other', not of 'ml'"),
    ("no pod", {"claims": with_claims(pod=None)}, "not bound to a pod"),
    ("the API server's audience", {"claims": CLAIMS | {"aud": ["https://kubernetes.default.svc"]}}, "audience is not"),
    ("another job's audience", {"claims": CLAIMS | {"aud": ["finetune.dev/ml/other/uid-1"]}}, "audience is not"),
    ("a name that only begins alike", {"claims": CLAIMS | {"aud": ["finetune.dev/ml/medqa-2/uid-1"]}}, "audience is"),
    ("an audience without UID", {"claims": CLAIMS | {"aud": ["finetune.dev/ml/medqa/"]}}, "audience is not"),
    ("two UIDs", {"claims": CLAIMS | {"aud": [*CLAIMS["aud"], "finetune.dev/ml/medqa/uid-2"]}}, "audience is not"),
    ("a pod made anew", {"pod": POD | {"uid": "pod-b"}}, "not the one that the token was made for"),
    ("a pod without labels", {"pod": POD | {"labels": {}}}, "does not carry the labels"),
    ("another job's label", {"pod": with_labels(job="other")}, "does not carry the labels"),
    ("a deleted namesake's label", {"pod": with_labels(job_uid="uid-0")}, "does not carry the labels"),
    ("an unknown stage", {"pod": with_labels(stage="merge")}, "no label finetune.dev/stage"),
    ("a pod on its own", {"pod": POD | {"ownerReferences": []}}, "not controlled by a Job"),
    ("a pod of another kind", {"pod": with_owner(POD, kind="ReplicaSet")}, "not controlled by a Job"),
    ("an owner that does not control", {"pod": with_owner(POD, controller=False)}, "not controlled by a Job"),
    ("a Job on its own", {"job": BATCH_JOB | {"ownerReferences": []}}, "not controlled by FineTuneJob ml/medqa"),
    ("a namesake's Job", {"job": with_owner(BATCH_JOB, uid="uid-0")}, "not controlled by FineTuneJob ml/medqa"),
    ("another job's Job", {"job": with_owner(BATCH_JOB, name="other")}, "not controlled by FineTuneJob ml/medqa"),
    (
        "a Job of another kind",
        {"job": with_owner(BATCH_JOB, kind="TrainJob")},
        "not controlled by FineTuneJob ml/medqa",
    ),
]


@pytest.mark.parametrize(("objects", "message"), [row[1:] for row in FORBIDDEN], ids=[row[0] for row in FORBIDDEN])
def test_a_forged_or_foreign_pod_is_forbidden(objects: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(Refusal, match=message) as caught:
        identify(**objects)
    assert caught.value.status is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("claims", [{}, {"aud": "x"}, CLAIMS | {"kubernetes.io": {}}, CLAIMS | {"aud": "one"}])
def test_a_token_of_another_issuer_kind_is_unauthenticated(claims: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="not a Kubernetes service account token") as caught:
        parse_claims(claims)
    assert caught.value.status is HTTPStatus.UNAUTHORIZED
