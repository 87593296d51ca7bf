"""Runs short host commands."""

import subprocess

from embedded_cluster.errors import ClusterError


def run(*command: str) -> str:
    """Runs ``command`` and returns its standard output.

    Raises:
        ClusterError: the program is missing or exited with another status than 0; the message holds its last words.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not on the PATH: it is one of the packages in packages.txt") from error
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def succeeds(*command: str) -> bool:
    try:
        run(*command)
    except ClusterError:
        return False
    return True
