"""Buckets, key, queue, topic, logs, repositories."""

from deployed import appends, drops, sets

from mutations.mutation import REF, SUB, allow, infra, resource

ENCRYPTION = "BucketEncryption/ServerSideEncryptionConfiguration/0/ServerSideEncryptionByDefault"
BLOCKS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")

STORAGE = [
    *(
        infra(f"{block} is off", "bucket-private", sets(f"Bucket/PublicAccessBlockConfiguration/{block}", False))
        for block in BLOCKS
    ),
    infra("no public access block", "bucket-private", drops("LogsBucket/PublicAccessBlockConfiguration")),
    infra("ACLs are on", "bucket-owner", drops("Bucket/OwnershipControls")),
    infra("bucket without encryption", "bucket-encrypted", drops("Bucket/BucketEncryption")),
    infra("bucket with S3's key", "bucket-encrypted", sets(f"Bucket/{ENCRYPTION}", {"SSEAlgorithm": "AES256"})),
    infra(
        "bucket with the key for S3's encryption",
        "bucket-encrypted",
        sets(f"Bucket/{ENCRYPTION}/SSEAlgorithm", "AES256"),
    ),
    infra("logs' bucket without encryption", "bucket-encrypted", drops("LogsBucket/BucketEncryption")),
    infra("bucket with another key", "bucket-encrypted", sets(f"Bucket/{ENCRYPTION}/KMSMasterKeyID", "alias/aws/s3")),
    infra("bucket without versions", "bucket-versioned", sets("Bucket/VersioningConfiguration/Status", "Suspended")),
    infra("bucket without lifecycle", "bucket-lifecycle", drops("Bucket/LifecycleConfiguration")),
    infra(
        "lifecycle rule is off",
        "bucket-lifecycle",
        sets("Bucket/LifecycleConfiguration/Rules/Id=old-versions/Status", "Disabled"),
    ),
    infra("bucket without access logs", "bucket-access-logs bucket-encrypted", drops("Bucket/LoggingConfiguration")),
    infra(
        "lifecycle rule for a part of the bucket",
        "bucket-lifecycle",
        sets("Bucket/LifecycleConfiguration/Rules/Id=old-versions/Prefix", "models/"),
    ),
    infra(
        "access logs go to what is no bucket",
        "bucket-access-logs bucket-encrypted",
        sets("Bucket/LoggingConfiguration/DestinationBucketName", {REF: "Key"}),
    ),
    infra(
        "access logs are denied",
        "bucket-access-logs",
        sets("LogsBucketPolicy/PolicyDocument/Statement/Sid=AccessLogsOfBucket/Effect", "Deny"),
    ),
    infra(
        "access logs from another service",
        "bucket-access-logs",
        sets("LogsBucketPolicy/PolicyDocument/Statement/Sid=AccessLogsOfBucket/Principal/Service", "s3.amazonaws.com"),
    ),
    infra(
        "access logs may be read only",
        "bucket-access-logs",
        sets("LogsBucketPolicy/PolicyDocument/Statement/Sid=AccessLogsOfBucket/Action", "s3:GetObject"),
    ),
    infra(
        "access logs are refused",
        "bucket-access-logs",
        drops("LogsBucketPolicy/PolicyDocument/Statement/Sid=AccessLogsOfBucket"),
    ),
    infra("bucket without a policy", "tls-only", drops("/Resources/BucketPolicy")),
    infra("logs' bucket without TLS", "tls-only", drops("LogsBucketPolicy/PolicyDocument/Statement/Sid=TlsOnly")),
    infra(
        "objects without TLS",
        "tls-only",
        sets("BucketPolicy/PolicyDocument/Statement/0/Resource", {"Fn::GetAtt": ["Bucket", "Arn"]}),
    ),
    infra(
        "TLS is asked of one account only",
        "tls-only",
        sets("BucketPolicy/PolicyDocument/Statement/0/Condition/StringEquals", {"aws:PrincipalAccount": "1"}),
    ),
    infra(
        "TLS is allowed, not asked",
        "tls-only no-strangers",
        sets("BucketPolicy/PolicyDocument/Statement/0/Effect", "Allow"),
    ),
    infra(
        "TLS is asked of some",
        "tls-only",
        sets("BucketPolicy/PolicyDocument/Statement/0/Principal", {"AWS": "arn:aws:iam::1:root"}),
    ),
    infra(
        "TLS is asked for reading", "tls-only", sets("BucketPolicy/PolicyDocument/Statement/0/Action", "s3:GetObject")
    ),
    infra("queue without TLS", "tls-only", drops("FailureQueuePolicy/PolicyDocument/Statement/Sid=TlsOnly")),
    infra("topic without TLS", "tls-only", drops("FailureTopicPolicy/PolicyDocument/Statement/Sid=TlsOnly")),
    infra(
        "everybody reads the bucket",
        "no-strangers",
        appends(
            "BucketPolicy/PolicyDocument/Statement", allow("s3:GetObject", {SUB: "${Bucket.Arn}/*"}, Principal="*")
        ),
    ),
    infra(
        "another account reads the bucket",
        "no-strangers",
        appends(
            "BucketPolicy/PolicyDocument/Statement",
            allow("s3:GetObject", {SUB: "${Bucket.Arn}/*"}, Principal={"AWS": "arn:aws:iam::999999999999:root"}),
        ),
    ),
    infra("the key is open", "no-strangers", sets("Key/KeyPolicy/Statement/0/Principal", {"AWS": "*"})),
    infra(
        "alarms of any account use the key",
        "no-strangers",
        drops("Key/KeyPolicy/Statement/Sid=AlarmsToTheTopicAndEventsToTheQueue/Condition"),
    ),
    infra(
        "alarms of any account reach the topic",
        "no-strangers",
        drops("FailureTopicPolicy/PolicyDocument/Statement/Sid=AlarmsOfThisAccount/Condition"),
    ),
    infra(
        "alarms of whatever account reach the topic",
        "no-strangers",
        sets(
            "FailureTopicPolicy/PolicyDocument/Statement/Sid=AlarmsOfThisAccount/Condition",
            {"StringLike": {"aws:SourceAccount": "*"}},
        ),
    ),
    infra(
        "alarms of another account reach the topic",
        "no-strangers",
        sets(
            "FailureTopicPolicy/PolicyDocument/Statement/Sid=AlarmsOfThisAccount/Condition/StringEquals/aws:SourceAccount",
            "999999999999",
        ),
    ),
    infra(
        "a condition on nothing",
        "no-strangers",
        sets(
            "FailureTopicPolicy/PolicyDocument/Statement/Sid=AlarmsOfThisAccount/Condition/StringEquals/aws:SourceAccount",
            [],
        ),
    ),
    infra(
        "everybody reaches the topic for this account",
        "no-strangers services-let-in",
        sets("FailureTopicPolicy/PolicyDocument/Statement/Sid=AlarmsOfThisAccount/Principal", "*"),
    ),
    infra(
        "a second policy of the topic",
        "services-let-in",
        resource("Second", "AWS::SNS::TopicPolicy", PolicyDocument={"Statement": []}),
    ),
    infra(
        "alarms and events cannot encrypt",
        "services-let-in",
        sets("Key/KeyPolicy/Statement/Sid=AlarmsToTheTopicAndEventsToTheQueue/Action", "kms:Decrypt"),
    ),
    infra(
        "alarms cannot reach the topic",
        "services-let-in",
        drops("FailureTopicPolicy/PolicyDocument/Statement/Sid=AlarmsOfThisAccount"),
    ),
    infra(
        "events that were not delivered cannot reach the queue",
        "services-let-in",
        drops("FailureQueuePolicy/PolicyDocument/Statement/Sid=RolloutsThatDidNotStart"),
    ),
    infra(
        "alarms and events cannot be encrypted",
        "services-let-in",
        drops("Key/KeyPolicy/Statement/Sid=AlarmsToTheTopicAndEventsToTheQueue"),
    ),
    infra("logs cannot be encrypted", "services-let-in", drops("Key/KeyPolicy/Statement/Sid=LogGroupsOfThisAccount")),
    infra(
        "everybody but one uses the key",
        "no-inverted-allow",
        appends(
            "Key/KeyPolicy/Statement",
            {
                "Effect": "Allow",
                "NotPrincipal": {"AWS": "arn:aws:iam::1:root"},
                "Action": "kms:Decrypt",
                "Resource": "*",
            },
        ),
    ),
    infra("the key is never rotated", "key-rotates", sets("Key/EnableKeyRotation", False)),
    infra("queue unencrypted", "encrypted-with-key", drops("FailureQueue/KmsMasterKeyId")),
    infra("queue with SQS's key", "encrypted-with-key", sets("FailureQueue/KmsMasterKeyId", "alias/aws/sqs")),
    infra("topic unencrypted", "encrypted-with-key", drops("FailureTopic/KmsMasterKeyId")),
    infra("function's log unencrypted", "encrypted-with-key", drops("FunctionLog/KmsKeyId")),
    infra("log without retention", "log-retention", drops("FunctionLog/RetentionInDays")),
    infra("log kept for ten years", "log-retention", sets("StateMachineLog/RetentionInDays", 3653)),
    infra("mutable tags", "immutable-tags", sets("ServingRepository/ImageTagMutability", "MUTABLE")),
    infra("no scan on push", "scanned-images", sets("TrainingRepository/ImageScanningConfiguration/ScanOnPush", False)),
    infra("images are kept for ever", "repository-lifecycle", drops("ServingRepository/LifecyclePolicy")),
    infra("images unencrypted", "repository-encrypted", drops("TrainingRepository/EncryptionConfiguration")),
]
