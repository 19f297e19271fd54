"""What every request passes: access checks, request record, access log, metrics, disconnect detection."""
