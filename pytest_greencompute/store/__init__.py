"""Runs on disk: versioned, validated, written atomically."""
