"""From the overrides of a command to a checked configuration."""
