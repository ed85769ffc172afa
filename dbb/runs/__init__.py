"""What the registry remembers of runs: begun, merged from the events of jobs, shown, cancelled and resumed."""
