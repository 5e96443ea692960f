"""Runs of a model under meters: who drives the protocol, with one model, several by turns, or a window."""
