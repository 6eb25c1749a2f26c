"""Many jobs of one command: each in a process of its own, and a table of how they ended."""
