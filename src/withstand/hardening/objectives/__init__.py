"""Training objectives, one file each; `withstand.core.registry` finds every module here."""
