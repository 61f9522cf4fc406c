"""Words of withstand: threat, property, evidence, judge, registry, runner, records."""
