"""Since when a figure is worse: a search over commits, each measured in pairs with one that was good. Pure.

Commits are numbered along the history: 0 is the good one, ``commits`` the bad one. A *change* is the logarithm of how many times worse a
commit is than the good one in one pair. Figures of the search are such logarithms until they are told to people.
"""
