"""What DVC keeps of this project, object by object: its cache and its remote, of whatever kind."""
