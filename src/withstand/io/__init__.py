"""Models, data and property files, read and written."""
