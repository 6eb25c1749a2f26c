"""Attribution of a recommender's logits to inputs and neurons."""
