"""What every stage shares: configuration, environment, folder, progress, result, failure."""
