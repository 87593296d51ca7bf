"""The command line: ``python -m embedded_cluster build|build-s3-server|up|down|status|env``."""

import argparse
import sys
from collections.abc import Sequence

from embedded_cluster.build import build, build_s3_server
from embedded_cluster.errors import ClusterError
from embedded_cluster.state import State

DESCRIPTION = "A real one-node Kubernetes on this machine, without Docker. Everything lies below FINETUNE_STATE_DIR."
VERBS = {
    "build": "build the binaries that are missing (needs Go only)",
    "build-s3-server": "build the S3 server that tests of sources run against (needs Go only)",
    "up": "start the cluster; what runs already is left alone",
    "down": "stop it and remove all but built binaries, images, logs and volumes",
    "status": "list the components; exits 1 unless all run",
    "env": "print the shell's exports of KUBECONFIG and PATH",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m embedded_cluster", description=DESCRIPTION)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in VERBS.items():
        verbs.add_parser(verb, help=text, description=text)
    verb = parser.parse_args(arguments).verb
    try:
        return _run(verb, State.default())
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(verb: str, state: State) -> int:
    if verb == "build":
        build(state)
        return 0
    if verb == "build-s3-server":
        build_s3_server(state)
        return 0
    exports = f"export KUBECONFIG={state.kubeconfig} PATH={state.binaries}:$PATH"
    if verb == "env":
        print(exports)
        return 0
    # Imported late: "build" must run before the packages that the rest needs are installed.
    from embedded_cluster.cluster import Cluster

    cluster = Cluster(state)
    if verb == "up":
        cluster.up()
        print(exports)
    elif verb == "down":
        cluster.down()
    else:
        for daemon in cluster.daemons():
            print(f"{daemon.name:<24} {f'runs, pid {daemon.pid}' if daemon.pid else 'does not run'}")
        return 0 if cluster.is_up() else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
