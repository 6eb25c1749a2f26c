"""The stages of a pipeline, one a file: what each makes, and what it says of it."""
