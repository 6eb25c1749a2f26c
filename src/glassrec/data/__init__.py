"""Sources of rows, as whole tensors."""
