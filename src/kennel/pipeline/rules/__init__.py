"""Rules of our own for what is deployed: the CloudFormation template and the state machine, read together.

Scanners see neither what is wrong between the two nor what this project in particular must not do. Each rule is a
function whose docstring is its reason; `table.py` lists them all, `python -m kennel.pipeline.rules` checks.
"""
