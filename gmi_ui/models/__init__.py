"""The models that the page offers, loads and fetches."""
