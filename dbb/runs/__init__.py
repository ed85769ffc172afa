"""What the registry remembers of runs: begun, merged from the events of jobs, and shown."""
