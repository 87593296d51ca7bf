"""`kubectl finetune report` on a cluster: a pod brings the page from the claim, whole, and is gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster_setup.install import CLAIM
from cluster_setup.jobs import RUN_SECONDS, Jobs, tiny
from cluster_setup.load import MOUNT, ClaimFiles
from finetune_api.job import FineTuneJob


@pytest.fixture(scope="module")
def job(jobs: Jobs) -> FineTuneJob:
    jobs.apply("with-page", tiny("with-page", steps=2))
    return jobs.wait_for_end("with-page", RUN_SECONDS)


def report(jobs: Jobs, output: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "finetune_cli.main",
        "report",
        "with-page",
        "-n",
        jobs.namespace,
        "-o",
        str(output),
    ]
    environment = {**os.environ, "COLUMNS": "200"}
    if kubeconfig := getattr(jobs.kubectl, "kubeconfig", None):
        environment["KUBECONFIG"] = str(kubeconfig)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_page_arrives_as_it_lies_on_the_claim_and_the_pod_is_gone(
    job: FineTuneJob, jobs: Jobs, files: ClaimFiles, tmp_path: Path
) -> None:
    assert job.status.evaluation is not None
    assert job.status.evaluation.page_uri is not None
    done = report(jobs, tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    page = files.read(job.status.evaluation.page_uri.removeprefix(f"pvc://{CLAIM}/"))
    assert (tmp_path / "page.html").read_text(encoding="utf-8").strip() == page.strip()
    assert "<h1>with-page</h1>" in page
    left = json.loads(jobs.kubectl("-n", jobs.namespace, "get", "pods", "-o", "json"))["items"]
    assert not [pod for pod in left if "-report-" in pod["metadata"]["name"]]


def test_a_page_that_is_no_longer_there_is_told(
    job: FineTuneJob, jobs: Jobs, files: ClaimFiles, tmp_path: Path
) -> None:
    assert job.status.evaluation is not None
    assert job.status.evaluation.page_uri is not None
    file = job.status.evaluation.page_uri.removeprefix(f"pvc://{CLAIM}/")
    files.execute("mv", f"{MOUNT}/{file}", f"{MOUNT}/{file}.away")
    try:
        done = report(jobs, tmp_path / "page.html")
    finally:
        files.execute("mv", f"{MOUNT}/{file}.away", f"{MOUNT}/{file}")
    assert done.returncode == 3
    assert "No such file or directory" in done.stderr
