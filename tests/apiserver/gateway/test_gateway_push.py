"""Pushes of progress over TLS to a gateway of its own process, and what of them a status shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from embedded_cluster.process import wait_until
from finetune_operator.gateway.main import PUSH_BURST
from gateway_process import Answer, Gateway, running_gateway
from gateway_runs import SECONDS, Run, body, condition


def test_a_push_is_shown_in_status(gateway: Gateway, run: Run) -> None:
    pod = run.running()
    assert gateway.push(run, run.token(pod), body(12, loss=0.53)) == Answer(200, "taken")
    run.shows(12, pod)
    progress = run.status["progress"]
    assert (progress["stage"], progress["percent"], progress["loss"], progress["summary"]) == (
        "Train",
        20,
        "0.53",
        "12/60",
    )


def test_a_push_before_the_first_status_waits_for_it(gateway: Gateway, run: Run) -> None:
    pod = run.start()
    other = Run.create(run.apiserver, run.namespace, "other")
    recorded = other.running()
    assert gateway.push(run, run.token(pod), body(1)).code == 200
    assert gateway.push(other, other.token(recorded), body(2)).code == 200
    other.shows(2, recorded)
    assert run.status == {}
    run.record(pod)
    run.shows(1, pod)


def test_steps_of_a_pod_never_go_back(gateway: Gateway, run: Run) -> None:
    pod = run.running()
    token = run.token(pod)
    assert gateway.push(run, token, body(20)).code == 200
    assert gateway.push(run, token, body(19)) == Answer(409, "a later step of this pod is already known")
    run.shows(20, pod)


def test_a_new_attempt_may_start_lower_and_the_old_pod_is_heard_no_more(gateway: Gateway, run: Run) -> None:
    old = run.running()
    gateway.push(run, run.token(old), body(20))
    run.shows(20, old)
    new = run.retry("train", old)
    run.record(new)
    assert gateway.push(run, run.token(new), body(5)).code == 200
    run.shows(5, new)
    assert gateway.push(run, run.token(old), body(21)) == Answer(409, "a newer pod reports for this job")


def test_the_evaluator_takes_over_from_the_trainer(gateway: Gateway, run: Run) -> None:
    trainer = run.running()
    gateway.push(run, run.token(trainer), body(60, loss=0.4))
    run.shows(60, trainer)
    evaluator = run.start("evaluate")
    run.record(evaluator, "Evaluate")
    assert gateway.push(run, run.token(evaluator), body(8, total=64)).code == 200
    run.shows(8, evaluator)
    assert run.status["progress"]["stage"] == "Evaluate"


def test_a_late_push_never_lands_on_a_namesake(gateway: Gateway, run: Run) -> None:
    old = run.running()
    token = run.token(old)
    gateway.push(run, token, body(20))
    run.shows(20, old)
    # Garbage collection may be first with the Job, or still be learning of a new CRD.
    both = (f"ftj/{run.name}", f"job/{run.name}-train")
    run.apiserver.kubectl("-n", run.namespace, "delete", "--ignore-not-found", *both)
    gone = ("-n", run.namespace, "get", "job", f"{run.name}-train")
    wait_until(lambda: run.apiserver.kubectl.run(*gone).returncode != 0, SECONDS, "deletion of the old Job")
    namesake = Run.create(run.apiserver, run.namespace)
    new = namesake.running()
    # The gateway still knows the old pod: it takes a push, finds another UID, and takes no more.
    assert gateway.push(run, token, body(50)).code == 200
    assert gateway.refuses(run, token, body(51), 409).message == "the job is finished or deleted"
    assert "progress" not in namesake.status
    gateway.push(namesake, namesake.token(new), body(3))
    namesake.shows(3, new)


def test_a_late_push_never_replaces_what_the_operator_wrote_at_the_end(gateway: Gateway, run: Run) -> None:
    pod = run.running()
    token = run.token(pod)
    gateway.push(run, token, body(40))
    run.shows(40, pod)
    final = {"stage": "Train", "pod": pod.name, "step": 60, "totalSteps": 60, "percent": 100}
    run.write({"stage": "Succeeded", "conditions": [condition("Succeeded", "True")], "progress": final})
    assert gateway.push(run, token, body(60, loss=9)).code == 200
    gateway.refuses(run, token, body(60, loss=9), 409)
    assert "loss" not in run.status["progress"]
    assert run.status["stage"] == "Succeeded"


def test_a_job_that_the_operator_did_not_record_is_not_believed(gateway: Gateway, run: Run) -> None:
    run.running()
    forged = run.start("evaluate")  # whoever may create Jobs can name the FineTuneJob as its controller
    assert gateway.push(run, run.token(forged), body(59)).code == 200
    later = Run.create(run.apiserver, run.namespace, "later")
    pod = later.running()
    gateway.push(later, later.token(pod), body(1))
    later.shows(1, pod)
    assert "progress" not in run.status


def test_a_pod_that_floods_is_told_to_wait_and_others_are_heard(
    gateway: Gateway, gateway_kubeconfig: Path, run: Run
) -> None:
    pod = run.running()
    token = run.token(pod)
    other = Run.create(run.apiserver, run.namespace, "other")
    calm = other.start()
    folder = gateway.authority.parent
    with running_gateway(gateway_kubeconfig, folder, GATEWAY_PUSHES_PER_SECOND="0.0001") as strict:
        answers = [strict.push(run, token, body(step)) for step in range(PUSH_BURST + 5)]
        refused = [answer for answer in answers if answer.code == 429]
        assert len(refused) == 5
        assert all(answer.retry_after and int(answer.retry_after) >= 1 for answer in refused)
        assert strict.push(other, other.token(calm), body(1)).code == 200


def test_a_pod_that_the_operator_made_and_recorded_may_report(
    gateway: Gateway, operator: Any, world: Any, run: Run
) -> None:
    name = world.run_pod(f"{run.name}-train")
    world.until_status(
        run.name, lambda status: any(each.pod == name for each in status.attempts), "the attempt's record"
    )
    pod = next(pod for pod in run.pods("train", 1) if pod.name == name)
    assert gateway.push(run, run.token(pod), body(7)).code == 200
    run.shows(7, pod)
    world.end_pod(name, exit_code=1)
    successor = world.run_pod(f"{run.name}-train")
    world.until_status(run.name, lambda status: status.attempts[-1].pod == successor, "the second attempt's record")
    new = next(pod for pod in run.pods("train", 2) if pod.name == successor)
    assert gateway.push(run, run.token(new), body(2)).code == 200
    run.shows(2, new)
    assert operator.process.poll() is None


# In a process of its own: Unsloth's tests need transformers not to be imported before Unsloth.
CALLBACK = """
from transformers import TrainerControl, TrainerState
from transformers.integrations import KubeflowCallback

KubeflowCallback._MIN_UPDATE_INTERVAL = 0  # a test does not train for minutes
callback, control = KubeflowCallback(), TrainerControl()
send = callback._update_status
callback._update_status = lambda *args, **kwargs: print(send(*args, **kwargs))
state = TrainerState(max_steps=4, is_world_process_zero=True)
callback.on_train_begin(None, state, control)
for step in range(1, 5):
    state.global_step, state.epoch = step, step / 4
    callback.on_log(None, state, control, logs={"loss": 2.0 - step / 4, "learning_rate": 1e-4})
    callback.on_step_end(None, state, control)
callback.on_train_end(None, state, control)
"""


def test_hugging_faces_own_callback_reports(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    pod = run.running()
    token = tmp_path / "token"
    token.write_text(run.token(pod))
    environment = os.environ | {
        "KUBEFLOW_TRAINER_SERVER_URL": gateway.url(run),
        "KUBEFLOW_TRAINER_SERVER_CA_CERT": str(gateway.authority),
        "KUBEFLOW_TRAINER_SERVER_TOKEN": str(token),
    }
    done = subprocess.run([sys.executable, "-c", CALLBACK], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * 6, done.stderr  # each was answered with 200
    run.shows(4, pod)
    wait_until(lambda: run.status["progress"]["percent"] == 100, SECONDS, "100% in status")
    progress = run.status["progress"]
    assert (progress["totalSteps"], progress["loss"], progress["summary"]) == (4, "1.0", "4/4")
