"""Attacks: one file each, found by the registry. See `withstand.core.registry.attack` for their form."""
