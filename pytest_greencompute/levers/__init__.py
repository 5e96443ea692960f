"""What each lever does to a task: the values that are worth trying on it, and the task with one of them. The user's own stays as it is."""
