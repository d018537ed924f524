"""A release against the last build of its profile, sample by sample."""
