"""Universal attacks: one perturbation for all inputs, fitted on some and measured on others. One file each."""
