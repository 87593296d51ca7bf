"""Which fields of a refused Job are the user's own."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.workload.order import Order
from finetune_operator.workload.profile import LoadedProfile, Profile
from finetune_operator.workload.refusal import is_the_users
from plan_questions import job

POD = "spec.template.spec."
RUNTIME = {"tolerations": [{"key": "spot", "operator": "Exists"}], "nodeSelector": {"pool": "gpu"}}


def users(*fields: str, **profile: Any) -> bool:
    """Whether the fields are the user's, with one toleration in the spec."""
    subject = job(runtime=RUNTIME)
    assert subject.spec is not None
    loaded = LoadedProfile("default", Profile(image="registry.example/trainer:1", **profile), "f" * 64)
    spec = subject.spec
    made = Order(subject.metadata, spec.resolved, spec.training_sha256, spec.folder, loaded, None)
    return is_the_users([POD + field for field in fields], made)


@pytest.mark.parametrize("field", ["containers[0].resources.requests[gpus]", "tolerations[0].operator", "nodeSelector"])
def test_a_field_that_only_the_spec_gives_is_the_user_s(field: str) -> None:
    assert users(field)
    assert not users(field, "volumes[0].name")


@pytest.mark.parametrize(
    ("field", "profile"),
    [
        ("containers[0].resources.limits[nvidia.com/gpu]", {}),
        ("containers[0].image", {}),
        ("tolerations[1].operator", {"tolerations": [{"key": "x", "operator": "Exists"}]}),
        ("nodeSelector", {"node_selector": {"zone": "a"}}),
    ],
)
def test_a_field_that_the_profile_gives_is_not(field: str, profile: dict[str, Any]) -> None:
    assert not users(field, **profile)


@pytest.mark.parametrize(("length", "mine"), [(256, False), (8192, True)])
def test_annotations_that_are_too_long_are_the_user_s_when_the_spec_fills_them(length: int, mine: bool) -> None:
    """Else they are those of whoever adds to a Job on its way in."""
    texts = {"promptTemplate": "{question}", "optionTemplate": "{option}", "responseTemplate": "{answer}"}
    shape = {"format": "MultipleChoice", **{name: text.ljust(length, "x") for name, text in texts.items()}}
    mixture = [{"name": f"m{number}", "source": "hf://a/b", **shape} for number in range(8)]
    held_out = {"source": "hf://a/c", **shape}
    subject = job(
        dataset={"source": "hf://a/b", **shape, "mixture": mixture, "replay": held_out},
        evaluation={"dataset": held_out, "retention": held_out},
    )
    assert subject.spec is not None
    spec = subject.spec
    profile = LoadedProfile("default", Profile(image="registry.example/trainer:1"), "f" * 64)
    made = Order(subject.metadata, spec.resolved, spec.training_sha256, spec.folder, profile, None)
    assert is_the_users(["spec.template.annotations"], made) is mine


def test_a_refusal_that_names_no_field_is_nobody_s() -> None:
    assert not users()
