"""CloudFormation of the local AWS: stacks, whose resources are made by calls to the local AWS's own API."""
