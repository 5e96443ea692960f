"""One pytest session's measuring, without pytest: what a test sees, what it measured, what its verdicts do."""
