"""Why a figure is worse: what two sides were seen to spend, row by row, and the joules between them. Pure.

A profile is what one side was seen to do in passes over its queries; explaining multiplies its shares of time by the energy that the
verdict measured. Nothing here measures energy, and nothing changes a verdict.
"""
