"""One verifier a file, found by the registry. See `withstand.core.registry.verifier` for their form."""
