"""What would make a model cheaper: the known levers, which of them to measure next, and what to advise. Pure.

A *lever* is one thing that may be changed about how a model is run; a *setting* is a lever at a value; a *configuration* is some settings
together, one a lever. Figures of the search are ratios of energy to a configuration that was measured by turns.
"""
