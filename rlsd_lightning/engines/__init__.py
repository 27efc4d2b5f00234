"""Rollout engines: what samples completions. One file each."""
