"""AWS on 127.0.0.1 that really does the work."""
