"""The command line for the container images: ``python -m embedded_cluster.images build|push|prune [NAME ...]``.

Building and pushing need Python's standard library only, so that they can run before any virtual environment exists.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedded_cluster import registry
from embedded_cluster.builder import find_builder
from embedded_cluster.errors import ClusterError
from embedded_cluster.image_builds import Images
from embedded_cluster.image_content import IMAGES, OPERATOR, TRAINER
from embedded_cluster.lock import locked
from embedded_cluster.state import State


def write_references(state: State, references: Mapping[str, str]) -> Path:
    """Adds ``{name: registry/name@sha256:…}`` to run/images.json, where manifests find what to run."""
    path = state.run / "images.json"
    with locked(state.cache / "images" / "references.lock"):
        known = json.loads(path.read_text()) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known | dict(references), indent=2) + "\n")
    return path


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded_cluster.images", description=__doc__)
    parser.add_argument("verb", choices=("build", "push", "prune"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(IMAGES)}")
    # The shell's REGISTRY may mean something else: only with CLUSTER=current is it ours.
    chosen = os.environ.get("REGISTRY") if os.environ.get("CLUSTER") == "current" else None
    parser.add_argument("--registry", default=chosen or registry.ADDRESS, help="host[:port][/path]")
    parser.add_argument("--base-image", default=os.environ.get("BASE_IMAGE"), help="what the images start from")
    parser.add_argument("--builder", choices=("buildah", "docker"), help="the first that works here without")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - set(IMAGES):
        parser.error(f"no image {', '.join(sorted(unknown))}; there are {', '.join(IMAGES)}")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one verb. ``base`` and ``pause`` are for the embedded node: another registry gets them by name only."""
    arguments = _parse(argv)
    state = State.default()
    images = Images(
        state=state,
        builder=find_builder(state, arguments.builder),
        registry=arguments.registry,
        base_image=arguments.base_image,
    )
    default = IMAGES if images.is_embedded else (OPERATOR.name, TRAINER.name)
    wanted = [IMAGES[name] for name in arguments.names or default]
    if images.is_embedded and arguments.verb != "build":
        registry.start(state)
    if arguments.verb == "build":
        for image in wanted:
            images.build(image)
    elif arguments.verb == "push":
        path = write_references(state, {image.name: images.push(image) for image in wanted})
        print(f"references: {path}")
    else:
        # Imported late: the other verbs must run before the packages that the node's part needs are installed.
        from embedded_cluster.image_prune import prune

        prune(images)


if __name__ == "__main__":
    try:
        main()
    except ClusterError as error:
        sys.exit(str(error))
