"""The attacks of withstand beside those of other packages, on the same rows, judged by the same words."""
