"""What ``greencompute init`` starts a project with: what it finds there, and the test, limits and pipeline that suit it."""
