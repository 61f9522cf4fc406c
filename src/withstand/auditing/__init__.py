"""The main job: doctor, attacks and proofs in one run, kept in a run folder that survives being killed."""
