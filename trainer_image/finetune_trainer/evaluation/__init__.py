"""The evaluation stage: base against tuned on held-out rows."""
