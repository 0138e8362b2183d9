"""How good summaries are, as pure functions.

words and text compare a summary with its references, quantities and faithful with its dialogue; style describes it,
baselines are what it has to beat, and certainty says how sure a figure is.
"""
