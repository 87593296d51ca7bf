"""What containers leave on the host."""

import signal
import subprocess
from pathlib import Path

from embedded_cluster.leftovers import end_forgotten
from embedded_cluster.node_config import containerd_socket
from embedded_cluster.state import State


def test_a_shim_that_containerd_forgot_is_ended_and_another_clusters_is_not(tmp_path: Path) -> None:
    here, elsewhere = State(tmp_path / "here"), State(tmp_path / "elsewhere")
    shims = [
        subprocess.Popen(["sh", "-c", "read nothing", "shim", str(containerd_socket(state))], stdin=subprocess.PIPE)
        for state in (here, elsewhere)
    ]
    try:
        end_forgotten(here)
        assert shims[0].wait(timeout=10) == -signal.SIGKILL
        assert shims[1].poll() is None
    finally:
        for shim in shims:
            shim.kill()
            shim.communicate()
