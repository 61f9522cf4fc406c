"""Randomised smoothing: what a vote of the model over noisy copies of an input withstands, as a statistic."""
