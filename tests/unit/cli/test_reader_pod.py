"""The pod that reads the report page: what it may do, what it prints, and what the plugin takes from its log."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_api.job import FineTuneJob
from finetune_api.uris import parse_claim
from finetune_cli import reader_pod
from finetune_cli.errors import CliError
from finetune_cli.reader_pod import SCRIPT, has_ended, hindrance, is_hopeless, surroundings_of, unpack

DATA = Path(__file__).parents[2] / "data/cli"
FILE = parse_claim("pvc://models/medqa/3f2a/evaluations/7c1e/report.html")


def job() -> FineTuneJob:
    document = yaml.safe_load((DATA / "succeeded.yaml").read_text(encoding="utf-8"))
    document["status"]["stages"] = [{"name": "Evaluate", "lineage": {"image": "registry/trainer@sha256:1"}}]
    return FineTuneJob.model_validate(document)


def printed(file: Path) -> tuple[int, str]:
    """What the pod's own command prints of a file, in a Python of its own."""
    done = subprocess.run([sys.executable, "-I", "-c", SCRIPT, str(file)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def log(tmp_path: Path) -> str:
    (tmp_path / "page.html").write_bytes(b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(900)))
    return printed(tmp_path / "page.html")[1]


def test_a_file_arrives_byte_by_byte_whatever_else_the_log_holds(log: str, tmp_path: Path) -> None:
    assert unpack(f"a warning\n{log}bye\n", "it") == (tmp_path / "page.html").read_bytes()
    assert max(len(line) for line in log.splitlines()) <= 1000


@pytest.mark.parametrize(
    "harm",
    [
        lambda log: log.replace("finetune-end", ""),
        lambda log: log[:4000] + log[5000:],
        lambda log: log.replace("finetune-file ", "finetune-file 1"),
        lambda log: log[:90] + "!" + log[91:],
    ],
)
def test_a_log_that_is_torn_or_changed_gives_no_file(log: str, harm: Any) -> None:
    with pytest.raises(CliError, match="is not whole: try again"):
        unpack(harm(log), "the page")


def test_what_the_pod_can_t_read_is_told_in_its_words(tmp_path: Path) -> None:
    code, log = printed(tmp_path / "page.html")
    assert code == 1
    with pytest.raises(CliError, match="can't read the page: No such file or directory"):
        unpack(log, "the page")


def test_a_file_that_a_node_would_not_keep_in_a_log_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "page.html").open("wb") as file:
        file.truncate(reader_pod.MAX_BYTES + 1)
    code, log = printed(tmp_path / "page.html")
    assert (code, log) == (1, "finetune-lost it is larger than 6 MiB\n")


def test_a_log_without_a_word_of_the_file_is_told() -> None:
    with pytest.raises(CliError, match="said nothing of it: exec format error"):
        unpack("exec format error\n", "the page")


def test_the_pod_reads_one_claim_as_nobody_and_goes_with_its_job() -> None:
    owner = job()
    pod = reader_pod.reader_pod("medqa-report-1", owner, FILE, surroundings_of(owner, None))
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert pod["metadata"]["ownerReferences"][0]["uid"] == owner.metadata.uid
    assert "finetune.dev/job" not in pod["metadata"]["labels"]  # the operator would take it for a stage's
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    assert spec["activeDeadlineSeconds"] == reader_pod.LIFETIME_SECONDS
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert [mount["readOnly"] for mount in container["volumeMounts"]] == [True]
    assert container["command"][-1] == "/mnt/claim/medqa/3f2a/evaluations/7c1e/report.html"
    lineage = owner.status.stage_status("Evaluate").lineage
    assert lineage is not None
    assert container["image"] == lineage.image


def test_the_pod_takes_over_what_let_the_evaluation_s_own_pod_in() -> None:
    template = {
        "containers": [{"name": "trainer", "image": "other"}],
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "securityContext": {"runAsUser": 7, "fsGroup": 7},
    }
    around = surroundings_of(job(), {"spec": {"template": {"spec": template}}})
    assert (around.pull_secrets, around.tolerations) == (template["imagePullSecrets"], template["tolerations"])
    assert around.pod_security == {"runAsUser": 7}  # to change a volume's group would write to it
    assert around.image != "other"


def waiting(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "m"}}
    return {"status": {"containerStatuses": [{"name": "istio", "state": {}}, {"name": "reader", "state": state}]}}


def test_what_holds_the_pod_up_is_told_and_what_no_time_mends_is_known() -> None:
    assert hindrance({}) == hindrance(waiting("ContainerCreating")) == ""
    assert hindrance(waiting("ImagePullBackOff")) == "ImagePullBackOff: m"
    assert is_hopeless("ImagePullBackOff: m")
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    told = hindrance({"status": {"conditions": [unschedulable]}})
    assert told == "Unschedulable: no node"
    assert not is_hopeless(told)


def test_the_reader_has_ended_though_a_sidecar_goes_on() -> None:
    ended = [{"name": "istio", "state": {"running": {}}}, {"name": "reader", "state": {"terminated": {}}}]
    assert has_ended({"status": {"phase": "Running", "containerStatuses": ended}})
    assert has_ended({"status": {"phase": "Failed"}})
    assert not has_ended({"status": {"phase": "Running", "containerStatuses": ended[:1]}})
