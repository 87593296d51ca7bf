"""A local run on a terminal: a live line beneath the log, and Ctrl-C that still reaches the stage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_api.config import RunConfig

# A pseudo terminal with a session of its own, so that a typed Ctrl-C becomes a SIGINT for the whole group.
IN_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def local_run(config: RunConfig, folder: Path) -> list[str]:
    job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "tiny"}}
    job["spec"] = config.spec.to_api()
    (folder / "job.yaml").write_text(json.dumps(job))
    mounts = [f"--mount={mount.claim}={mount.path}" for mount in config.mounts]
    return [sys.executable, "-m", "finetune_trainer", "run", str(folder / "job.yaml"), *mounts]


def run_on_terminal(
    config: RunConfig, folder: Path, type_at: Callable[[str], bytes] = lambda _: b""
) -> tuple[int, str]:
    """The exit code of a local run, and all that its terminal showed; ``type_at`` says what to type, given that."""
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *local_run(config, folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    assert process.stdin
    assert process.stdout
    shown = b""
    while chunk := os.read(process.stdout.fileno(), 65536):
        shown += chunk
        if typed := type_at(shown.decode(errors="replace")):
            process.stdin.write(typed)
            process.stdin.flush()
    code = process.wait()
    watchdog.cancel()
    process.stdin.close()
    process.stdout.close()
    return code, shown.decode()


def test_a_line_of_progress_is_drawn_beneath_the_log_and_gone_at_the_end(make_config: Any, tmp_path: Path) -> None:
    code, shown = run_on_terminal(make_config(tmp_path), tmp_path)
    assert code == 0, shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"Training +━+.* step 2/2  loss \d+\.\d{4}", plain)
    assert re.search(r"Evaluating +━+.* row 24/24", plain)
    # Each line of the log stands alone, once, and the table after the last stage.
    lines = re.split(r"[\r\n]+", plain.rstrip())
    assert len([line for line in lines if re.fullmatch(r"step 2/2  loss \d+\.\d{4}  .* tokens/s", line)]) == 1
    assert lines[-1].startswith("report: ")
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > 0  # the cursor is back


def test_off_a_terminal_nothing_is_drawn(make_config: Any, tmp_path: Path) -> None:
    config = make_config(tmp_path, dataset={"source": "pvc://work/nosuch"})
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        local_run(config, tmp_path), env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 66
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("DatasetNotFound: ")


def test_a_stage_that_fails_gives_its_exit_code_and_its_last_line_stays(make_config: Any, tmp_path: Path) -> None:
    config = make_config(tmp_path, dataset={"source": "pvc://work/nosuch"})
    code, shown = run_on_terminal(config, tmp_path)
    assert code == 66
    assert "DatasetNotFound: pvc://work/nosuch is not there" in shown


def test_ctrl_c_saves_a_checkpoint_before_the_stage_ends(make_config: Any, tmp_path: Path) -> None:
    typed: list[bytes] = []

    def interrupt(shown: str) -> bytes:
        if typed or not re.search(r"step [1-9][\d,]*/1,000,000", shown):  # not each step is drawn
            return b""
        typed.append(b"\x03")
        return b"\x03"

    code, shown = run_on_terminal(make_config(tmp_path, training={"maxSteps": 1_000_000}), tmp_path, interrupt)
    assert typed
    assert code == 75, shown
    assert "Interrupted: " in shown
    (checkpoint,) = tmp_path.glob("out/*/checkpoints/*")
    assert any(checkpoint.rglob("*.safetensors"))
