"""One verdict over many hosts: the reports of their sessions, read as parts of one, judged again from their samples, and pooled."""
