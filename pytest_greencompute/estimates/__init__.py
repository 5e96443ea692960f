"""From a run to figures with intervals, one module a kind of figure. Pure."""
