"""Deployment profiles: schema, loading, expansion and cross-checks with targets."""
