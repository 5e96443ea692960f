"""Base against head: two processes that measure the same test by turns, and the comparison that is told their pairs."""
