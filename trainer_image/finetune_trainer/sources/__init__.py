"""Where bytes come from: the hub, a claim, and the revisions that a run is pinned to."""
