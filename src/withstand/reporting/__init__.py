"""Pages made from run folders. Reads records and files only, never a model, so that an old run renders years later."""
