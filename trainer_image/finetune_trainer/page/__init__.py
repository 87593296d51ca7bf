"""The report page: one self-contained HTML document of what a run's folder says of an evaluation."""
