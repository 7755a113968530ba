"""How long phase 1 takes, beside model2vec."""
