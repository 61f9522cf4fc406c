"""Verifiers: anytime generators of evidence (`methods/`, one file each), and the search that drives them."""
