"""What runs: from a spec and a profile to a batch/v1 Job, and what Jobs and pods say of themselves."""
