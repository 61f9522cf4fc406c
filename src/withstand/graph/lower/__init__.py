"""Array operations as a run on one sample shows them, lowered to graph nodes; both frontends stand on these."""
