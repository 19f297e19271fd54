"""What a backend is, and how requests queue for it: the pipeline here, or an engine elsewhere."""
