"""How long each phase of a make run took; phases overlap, so each has its own start and end.

``python -m cluster_setup.phases NAME COMMAND...`` measures a command. The standard library suffices.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Phases:
    """Phases of one run, a line each in a file: name, start, end (seconds since the epoch)."""

    file: Path

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Times the block, prints its seconds and appends them to the file, whether it fails or not."""
        start = time.time()
        try:
            yield
        finally:
            end = time.time()
            print(f"[{name}: {end - start:.0f} s]", flush=True)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a") as log:
                log.write(f"{name}\t{start:.1f}\t{end:.1f}\n")

    def table(self) -> str:
        """The phases in the order they began: seconds each, and the whole from first start to last end."""
        rows = [line.split("\t") for line in self.file.read_text().splitlines()]
        times = sorted((float(start), float(end), name) for name, start, end in rows)
        if not times:
            return ""
        first, last = times[0][0], max(end for _, end, _ in times)
        lines = [f"{name:<24}{end - start:>7.0f} s   (from {start - first:.0f} s)" for start, end, name in times]
        return "\n".join(["Phases", *lines, f"{'all':<24}{last - first:>7.0f} s"])


def main() -> int:
    """Runs a command as a phase of the file that FINETUNE_PHASES names."""
    name, *command = sys.argv[1:]
    with Phases(Path(os.environ["FINETUNE_PHASES"])).measure(name):
        return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
