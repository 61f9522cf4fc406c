"""What several attacks are made of: walks, solvers, projections."""
