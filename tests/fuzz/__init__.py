"""Foreign text, mutated: whatever it is, the reader of it gives a sound value or our own error."""
