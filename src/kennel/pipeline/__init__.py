"""What drives AWS."""
