"""What is guaranteed of activations: over all rows (`constants`), or over all inputs (`domain`)."""
