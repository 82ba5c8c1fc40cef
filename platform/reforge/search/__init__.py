"""Spaces of jobs: read from YAML, checked against the job's own options, drawn from."""
