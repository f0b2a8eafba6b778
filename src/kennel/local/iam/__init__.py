"""IAM of the local AWS: what acts with a role may do what the role's policies allow, and nothing else."""
