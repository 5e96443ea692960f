"""Other commits of the user's project: found, checked out beside it, and proven to be what a process imports."""
