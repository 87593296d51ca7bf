"""The registry that images are pushed to, with images that the builder made."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded_cluster import registry
from embedded_cluster.builder import Buildah, BuildRequest
from embedded_cluster.errors import ClusterError
from embedded_cluster.state import State

REPOSITORY = "test-image-registry"


@pytest.fixture(scope="module")
def state() -> Iterator[State]:
    """The machine's registry runs; it is left as it was."""
    state = State.default()
    started = registry.start(state)
    yield state
    if started:
        registry.stop(state)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    return Buildah(State(tmp_path_factory.mktemp("builder")))


@pytest.fixture(autouse=True)
def no_image_is_left(state: State) -> Iterator[None]:
    yield
    for tag in ("one", "two"):
        if digest := registry.digest(REPOSITORY, tag):
            url = f"http://{registry.ADDRESS}/v2/{REPOSITORY}/manifests/{digest}"
            urllib.request.urlopen(urllib.request.Request(url, method="DELETE"))


def push(builder: Buildah, folder: Path, tag: str) -> str:
    """Pushes an image that no other test has; returns its digest."""
    (folder / "content").write_text(f"{folder} {tag}")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY content /\n")
    reference = f"localhost/{REPOSITORY}:{tag}"
    request = BuildRequest(dockerfile=folder / "Dockerfile", context=folder, reference=reference)
    builder.build(request, folder / "log")
    return builder.push(reference, f"{registry.ADDRESS}/{REPOSITORY}:{tag}")


def stored_blobs(state: State) -> set[str]:
    return {path.name for path in (state.cache / "registry/docker/registry/v2/blobs/sha256").glob("*/*")}


def test_a_pushed_image_is_found_by_its_tag(state: State, builder: Buildah, tmp_path: Path) -> None:
    digest = push(builder, tmp_path, "one")
    assert registry.digest(REPOSITORY, "one") == digest
    assert registry.compressed_bytes(REPOSITORY, digest) > 0
    assert registry.digest(REPOSITORY, "two") is None


def test_prune_frees_an_earlier_generation_and_keeps_the_present_one(
    state: State, builder: Buildah, tmp_path: Path
) -> None:
    before = stored_blobs(state)
    old = push(builder, tmp_path, "one")
    old_blobs = stored_blobs(state) - before
    new = push(builder, tmp_path, "two")
    new_blobs = stored_blobs(state) - before - old_blobs

    assert registry.prune(state, {REPOSITORY: "two"}) == 1

    assert registry.digest(REPOSITORY, old) is None
    assert registry.digest(REPOSITORY, "two") == new
    assert len(old_blobs) == len(new_blobs) == 3  # manifest, config, layer
    assert stored_blobs(state) & old_blobs == set()
    assert stored_blobs(state) >= new_blobs


def test_prune_leaves_a_repository_alone_whose_present_generation_was_not_pushed(
    state: State, builder: Buildah, tmp_path: Path
) -> None:
    push(builder, tmp_path, "one")
    assert registry.prune(state, {REPOSITORY: "not-pushed"}) == 0
    assert registry.digest(REPOSITORY, "one")


def test_starting_a_registry_that_runs_is_a_no_op(state: State) -> None:
    assert registry.start(state) is False


def test_a_taken_port_is_named(state: State, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"port 5000 \(registry\) is taken by docker-registry"):
        registry.start(State(tmp_path))


def test_a_failed_build_shows_what_the_builder_said(builder: Buildah, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY missing /\n")
    request = BuildRequest(dockerfile=tmp_path / "Dockerfile", context=tmp_path, reference="localhost/failing:1")
    with pytest.raises(ClusterError, match="missing"):
        builder.build(request, tmp_path / "log")


def test_removing_an_image_leaves_the_others(builder: Buildah, tmp_path: Path) -> None:
    push(builder, tmp_path, "one")
    push(builder, tmp_path, "two")
    builder.remove([f"localhost/{REPOSITORY}:one"])
    assert builder.tags(f"localhost/{REPOSITORY}") == {"two"}
