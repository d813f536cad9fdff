"""Training of `objects`: things of several thousand names, by one generator whose W has a place for every picture."""
