"""How good summaries are, as pure functions.

words and text compare a summary with its references, quantities and faithfulness with its dialogue; style describes it,
baselines are what it has to beat, and bootstrap says how sure a figure is.
"""
