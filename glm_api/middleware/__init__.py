"""What every request passes: access checks, request record, access log, metrics.

`disconnects` is for the endpoints that generate only: it cancels a request whose client leaves.
"""
