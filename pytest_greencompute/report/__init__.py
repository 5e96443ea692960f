"""Verdicts to text and files. Nothing here judges, and nothing here changes a sample."""
