"""``make demo`` after everything is built: install, load model and rows, apply the sample, watch it to its result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cluster_setup.install import CLAIM, DEMO_NAMESPACE, install
from cluster_setup.load import load
from cluster_setup.phases import Phases
from cluster_setup.target import REPOSITORY, Target
from embedded_cluster.errors import ClusterError

SAMPLE = REPOSITORY / "manifests/samples/medqa-tiny.yaml"
# What the samples train on.
ROWS = (REPOSITORY / "tests/data/medqa_synthetic", REPOSITORY / "tests/data/chat_synthetic")
JOB = "medqa-tiny"
WATCH_TIMEOUT_SECONDS = 1500


def run(target: Target, phases: Phases) -> int:
    """Runs the demo; returns the exit status of ``kubectl finetune watch``."""
    kubectl = target.kubectl
    with phases.measure("install"):
        install(target)
    with phases.measure("load model and rows"):
        kubectl("-n", DEMO_NAMESPACE, "delete", "finetunejob", JOB, "--ignore-not-found", "--cascade=foreground")
        folders = {"smollm2": target.state.cache / "models/smollm2", **{rows.name: rows for rows in ROWS}}
        # With an earlier demo's artefacts there, nothing would be trained.
        image = target.images()["finetune-trainer"]
        load(kubectl, DEMO_NAMESPACE, CLAIM, image, folders, outdated=f"runs/{JOB}")
    with phases.measure("fine-tune and evaluate"):
        print(f"$ kubectl apply -f {SAMPLE.relative_to(REPOSITORY)}")
        print(kubectl("apply", "-f", str(SAMPLE)), end="")
        return watch(target)


def watch(target: Target) -> int:
    """``kubectl finetune watch``, as a user calls it."""
    print(f"$ kubectl finetune watch {JOB} -n {DEMO_NAMESPACE}", flush=True)
    plugin = Path(sys.executable).with_name("kubectl-finetune")
    options = ["-n", DEMO_NAMESPACE, "--kubeconfig", str(target.kubeconfig), "--timeout", f"{WATCH_TIMEOUT_SECONDS}s"]
    return subprocess.run([plugin, "watch", JOB, *options]).returncode


def look_around(target: Target) -> str:
    """What to type next."""
    if not target.embedded:
        return f"Look around: kubectl -n {DEMO_NAMESPACE} get ftj -o wide"
    path = f"{target.state.binaries}:{Path(sys.executable).parent}"
    return (
        "The cluster stays up. Look around:\n"
        f"  export KUBECONFIG={target.kubeconfig} PATH={path}:$PATH\n"
        f"  kubectl -n {DEMO_NAMESPACE} get ftj -o wide\n"
        "  kubectl apply -f manifests/samples/chat-finetune.yaml\n"
        "  kubectl explain ftj.spec.lora.rank\n"
        "Stop it: make down"
    )


def main() -> int:
    """Runs the demo in the cluster that the environment names and prints how long each phase took."""
    try:
        target = Target.from_environment()
        phases = Phases(target.state.run / "phases.tsv")
        status = run(target, phases)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(target.kubectl("-n", DEMO_NAMESPACE, "get", "finetunejobs"), phases.table(), look_around(target), sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
