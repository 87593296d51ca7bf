"""The administrator's profile and the operator's environment: what is read, and how mistakes are told."""

from __future__ import annotations

import pytest

from finetune_operator.settings import Settings
from finetune_operator.workload.profile import LoadedProfile, ProfileProblem, parse_profile


def problem(data: dict[str, str] | None) -> str:
    """What is wrong with a profile."""
    found = parse_profile("gpu", "finetune-system", data)
    assert isinstance(found, ProfileProblem)
    return found.message


def test_a_profile_has_defaults_and_a_digest_that_follows_its_meaning() -> None:
    first = parse_profile("gpu", "finetune-system", {"profile.yaml": "image: registry.example/trainer:1"})
    same = parse_profile("gpu", "finetune-system", {"profile.yaml": "# a comment\nimage: 'registry.example/trainer:1'"})
    other = parse_profile("gpu", "finetune-system", {"profile.yaml": "image: registry.example/trainer:2"})
    assert isinstance(first, LoadedProfile)
    assert isinstance(same, LoadedProfile)
    assert isinstance(other, LoadedProfile)
    assert first.profile.gpu_resource_name == "nvidia.com/gpu"
    assert first.sha256 == same.sha256 != other.sha256


@pytest.mark.parametrize(
    ("allowed", "ml", "prod"),
    [("", True, True), ("allowedNamespaces: ['*']", True, True), ("allowedNamespaces: [ml, dev]", True, False)],
)
def test_a_profile_is_for_every_namespace_unless_it_names_some(allowed: str, ml: bool, prod: bool) -> None:
    loaded = parse_profile("gpu", "finetune-system", {"profile.yaml": f"image: a\n{allowed}"})
    assert isinstance(loaded, LoadedProfile)
    assert (loaded.profile.allows("ml"), loaded.profile.allows("prod")) == (ml, prod)


def test_a_missing_profile_names_the_config_map_to_create() -> None:
    assert "there is no profile 'gpu'" in problem(None)
    assert "ConfigMap finetune-system/finetune-profile-gpu" in problem(None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gpuResourceName: x", "image: Field required"),
        ("image: a\nimagee: b", 'unknown field "imagee"'),
        ("image: a\nrunAsUser: 0", "runAsUser: Input should be greater than or equal to 1, not 0"),
        ("image: a\nshmSize: lots", "shmSize: String should match pattern"),
        ("image: a\nenv: [{name: A, valueFrom: {}}]", 'unknown field "env[0].valueFrom"'),
        ("image: [", "is no YAML"),
        ("image: 2026-02-30", "is no YAML: day is out of range for month"),
        ('image: a\nenv: [{name: A, value: "\\uD800"}]', "is no YAML"),
        ("[" * 5000, "is no YAML"),
        ("image: a\ntrustRemoteCode: true", "trustRemoteCode: true needs allowedNamespaces that name each namespace"),
        ("image: a\ntrustRemoteCode: true\nallowedNamespaces: ['*', ml]", "needs allowedNamespaces that name each"),
        ("image: a\nallowedNamespaces: []", "allowedNamespaces: List should have at least 1 item"),
        ("image: a\nallowedNamespaces: ['ml-*']", "allowedNamespaces[0]: String should match pattern"),
        ("image: a\nterminationGracePeriodSeconds: 0", "terminationGracePeriodSeconds: Input should be greater than"),
        ("image: a\nshm_size: 1Gi", 'unknown field "shm_size"'),
        ("- image", "the document: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_profile_names_its_field(text: str, words: str) -> None:
    message = problem({"profile.yaml": text})
    assert words in message
    assert "\n" not in message


def test_a_config_map_without_the_key_says_so() -> None:
    assert problem({"profile.yml": "image: a"}).endswith("has no key profile.yaml")


def test_the_environment_is_read_and_its_gap_named() -> None:
    settings = Settings.from_environment(
        {"OPERATOR_NAMESPACE": "system", "GATEWAY_URL": "https://gateway/", "WATCH_NAMESPACES": "a, b,"}
    )
    assert (settings.gateway_url, settings.watch_namespaces) == ("https://gateway", ("a", "b"))
    assert settings.address == "0.0.0.0"
    assert Settings.from_environment({"OPERATOR_NAMESPACE": "system", "POD_IP": "fd00::7"}).address == "fd00::7"
    with pytest.raises(ValueError, match="OPERATOR_NAMESPACE is not set"):
        Settings.from_environment({})
