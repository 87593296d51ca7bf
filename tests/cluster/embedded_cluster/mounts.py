"""Mounts below a folder."""

from pathlib import Path

from embedded_cluster.command import run


def mounts_below(folder: Path) -> list[Path]:
    """Mount points below ``folder``, in the order in which they were mounted."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    # Space, tab, newline and backslash are octal there, see proc(5).
    points = [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]
    return [point for point in points if point.is_relative_to(folder.resolve())]


def unmount_below(folder: Path) -> None:
    """Unmounts everything below ``folder``, the latest mount first."""
    for point in reversed(mounts_below(folder)):
        run("umount", str(point))
