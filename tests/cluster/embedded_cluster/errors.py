"""The one error that a user of the embedded cluster can cause or meet."""


class ClusterError(Exception):
    """Says in its first line what was wrong, where, and what to do next."""
