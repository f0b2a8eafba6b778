"""The types of resources, a module for each part of AWS. `table.py` has them all by name."""
