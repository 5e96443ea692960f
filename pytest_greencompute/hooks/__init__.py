"""pytest's hooks, a subject each; ``plugin`` imports them when they are needed."""
