"""Finding, registering and describing plugins."""
