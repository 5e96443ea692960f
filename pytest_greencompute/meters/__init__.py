"""Meters: sources of energy readings. They talk to hardware and know nothing of pytest."""
