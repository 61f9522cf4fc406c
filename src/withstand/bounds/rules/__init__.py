"""One record for each operator; every module here is discovered."""
