"""Lipschitz constants of networks: how much an output can change for a change of the input, bounded from both sides."""
