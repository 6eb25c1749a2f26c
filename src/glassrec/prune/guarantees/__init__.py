"""What is guaranteed of activations: over all rows, or over all inputs."""
