"""What every request passes: who may call, its record, log line and counts, and whether its client is still there."""
