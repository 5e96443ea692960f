"""From estimates to verdicts: budgets, other runs, candidates. Pure."""
