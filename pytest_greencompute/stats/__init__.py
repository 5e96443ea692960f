"""Statistics that measuring and judging need. Pure: numbers in, numbers out."""
