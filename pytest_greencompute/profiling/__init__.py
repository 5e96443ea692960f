"""What looks at a model while it runs: one module a kind of what can be seen. Nothing is left behind in the model or the process."""
