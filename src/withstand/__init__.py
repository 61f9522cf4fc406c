"""withstand: what a deep-learning model withstands, closed from both sides."""

__version__ = "0.1.0"
