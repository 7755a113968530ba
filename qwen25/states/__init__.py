"""Teacher -> one hidden state a token and layer: streamed, whole, or pooled."""
