"""Base against head: two processes that measure the same test by turns, and the comparison that is told their pairs."""

SIDE = "GREENCOMPUTE_SIDE"  # the variable with the number of the open socket, in a process that measures one side and nowhere else
STOPS = ("set-up", "device")  # where a side may stop while it loads: after the test's set-up, and before its first use of a device
