"""Whether and how the server runs, and what it makes of a text: for operators and for debugging."""
