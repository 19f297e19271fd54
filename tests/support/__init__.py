"""What several tests share: servers and programs that they start, fakes, model files, readers of answers."""
