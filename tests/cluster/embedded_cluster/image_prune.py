"""Removes earlier generations of the images: one of the trainer takes some 20 GB in builder, registry and node."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from embedded_cluster import registry
from embedded_cluster.builder import Builder
from embedded_cluster.command import run, succeeds
from embedded_cluster.image_builds import Images, build_lock, push_lock
from embedded_cluster.image_content import IMAGES
from embedded_cluster.lock import locked
from embedded_cluster.node_config import containerd_socket
from embedded_cluster.state import State


def prune(images: Images) -> None:
    """Removes earlier generations from the builder, from the embedded registry and from its node.

    An image whose present generation is not there yet is left alone in that place, so that the layers it shares with
    the next one stay. The registry stops for some seconds when there is something to remove; the node keeps what its
    containers use, and is left alone while it is down. Builds and pushes under way are waited for.
    """
    present = {image.name: images.tag(image) for image in IMAGES.values()}
    with _nothing_under_way(images.state):
        images.report(f"builder: removed {_prune_builder(images.builder, present)} earlier images")
        if images.is_embedded:
            images.report(f"registry: removed {registry.prune(images.state, present)} earlier images")
            images.report(f"node: removed {_prune_node(images.state, present)} earlier images")


@contextmanager
def _nothing_under_way(state: State) -> Iterator[None]:
    with ExitStack() as stack:
        for image in IMAGES.values():
            stack.enter_context(locked(push_lock(state, image)))
            stack.enter_context(locked(build_lock(state, image)))
        yield


def _prune_builder(builder: Builder, present: Mapping[str, str]) -> int:
    old = []
    for name, tag in present.items():
        tags = builder.tags(f"localhost/{name}")
        if tag in tags:
            old += [f"localhost/{name}:{other}" for other in tags - {tag}]
    builder.remove(old)
    return len(old)


def _prune_node(state: State, present: Mapping[str, str]) -> int:
    """Removes images from containerd, with every name that it gives to each; returns how many."""
    socket = containerd_socket(state)
    ctr = ("ctr", "--address", str(socket), "--namespace", "k8s.io")
    if not (socket.exists() and succeeds(*ctr, "version")):
        return 0
    digests = _digests(run(*ctr, "images", "list"))
    used = {digests.get(image) for image in _used_images(run(*ctr, "containers", "list"))}
    old = old_digests(digests, {name: registry.digest(name, tag) for name, tag in present.items()}) - used
    names = [name for name, digest in digests.items() if digest in old]
    if names:
        run(*ctr, "images", "remove", *names)
    return len(old)


def old_digests(digests: Mapping[str, str], present: Mapping[str, str | None]) -> set[str]:
    """Digests in the node of earlier generations.

    ``digests`` maps each name in containerd to a digest, ``present`` each repository to the digest of its present
    generation, or to None where the registry has none.
    """
    old = set()
    for name, digest in digests.items():
        repository = name.removeprefix(f"{registry.ADDRESS}/").partition("@")[0].partition(":")[0]
        if present.get(repository) not in (None, digest):
            old.add(digest)
    return old


def _digests(listing: str) -> dict[str, str]:
    """``ctr images list``: REF TYPE DIGEST SIZE PLATFORMS LABELS."""
    return {columns[0]: columns[2] for columns in (line.split() for line in listing.splitlines()[1:])}


def _used_images(listing: str) -> set[str]:
    """``ctr containers list``: CONTAINER IMAGE RUNTIME."""
    return {line.split()[1] for line in listing.splitlines()[1:]}
