"""Training models that withstand: objectives, additions to them, and a thin trainer."""
