"""What a run would ask of AWS, what is wrong with it, and what it may cost: said before anything begins."""
