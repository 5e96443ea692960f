"""Runs of a model under meters: the only place that drives the protocol."""
