"""Work with finished runs: predictions, recommendations and reasons for new raw rows."""
