"""An account for IAM: every fact is what a test says, and nothing exists that it does not say."""

from dataclasses import dataclass, field

ACCOUNT, REGION = "123456789012", "us-east-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/one"


@dataclass(kw_only=True)
class FakeFacts:
    policies: dict = field(default_factory=dict)
    boundaries: dict = field(default_factory=dict)
    trusts: dict = field(default_factory=dict)
    resource_policies: dict = field(default_factory=dict)
    bucket_keys: dict = field(default_factory=dict)
    object_keys: dict = field(default_factory=dict)
    topic_keys: dict = field(default_factory=dict)
    queue_keys: dict = field(default_factory=dict)
    groups: tuple = ()
    configs: dict = field(default_factory=dict)
    state_machines: dict = field(default_factory=dict)
    functions: dict = field(default_factory=dict)

    def role_policies(self, role_arn):
        return self.policies.get(role_arn, [])

    def boundary(self, role_arn):
        return self.boundaries.get(role_arn)

    def trust(self, role_arn):
        return self.trusts.get(role_arn)

    def resource_policy(self, arn):
        return self.resource_policies.get(arn, [])

    def key_arn(self, key):
        return key if key.startswith("arn:") else f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key}"

    def bucket_key(self, bucket):
        return self.bucket_keys.get(bucket, "")

    def object_key(self, bucket, name, version):
        return self.object_keys.get((bucket, name), "")

    def topic_key(self, arn):
        return self.topic_keys.get(arn, "")

    def queue_key(self, arn):
        return self.queue_keys.get(arn, "")

    def log_group_exists(self, name):
        return name in self.groups

    def vpc_arn(self, subnet):
        return f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/vpc-of-{subnet}"

    def endpoint_config(self, endpoint):
        return self.configs.get(endpoint, "")

    def state_machine(self, arn):
        return self.state_machines.get(arn, {})

    def state_machine_of(self, role_arn):
        return next((arn for arn, machine in self.state_machines.items() if machine["roleArn"] == role_arn), "")

    def function(self, name):
        return self.functions.get(name, {})
