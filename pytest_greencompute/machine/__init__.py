"""This machine: its clock, processes and facts."""
