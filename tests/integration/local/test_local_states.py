"""`.sync` of SageMaker's jobs through a state machine that really runs."""

import json

import pytest

from local_rig import ROLE, wait_for
from waiting import gone

SFN_ROLE = "arn:aws:iam::123456789012:role/states"
TRAINING = "arn:aws:states:::sagemaker:createTrainingJob.sync"
TUNING = "arn:aws:states:::sagemaker:createHyperParameterTuningJob.sync"


def begin(aws, resource, parameters, **state):
    task = {"Type": "Task", "Resource": resource, "Parameters": parameters, "End": True, **state}
    definition = {"StartAt": "Work", "States": {"Work": task}}
    machine = aws.stepfunctions.create_state_machine(
        name=aws.name("machine"), definition=json.dumps(definition), roleArn=SFN_ROLE
    )
    return aws.stepfunctions.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]


def ended(aws, arn):
    return wait_for(
        lambda: aws.stepfunctions.describe_execution(executionArn=arn), lambda found: found["status"] != "RUNNING"
    )


def training(aws, script, **definition):
    return {"TrainingJobName": aws.name("job"), **aws.definition(script, **definition)}


def test_an_object_s_body_is_text_to_the_states_that_follow(aws):
    aws.s3.put_object(Bucket="bucket", Key="deployment.json", Body=b'{"Image": "it"}')
    reading = {"Bucket": "bucket", "Key": "deployment.json"}
    selector = {"Read.$": "States.StringToJson($.Body)"}
    execution = ended(aws, begin(aws, "arn:aws:states:::aws-sdk:s3:getObject", reading, ResultSelector=selector))
    assert json.loads(execution["output"]) == {"Read": {"Image": "it"}}


def test_a_training_job_that_completes_answers_with_its_description(aws):
    parameters = training(aws, "say('loss=0.5'); model()", metrics=[("loss", r"loss=([0-9.]+)")])
    execution = ended(aws, begin(aws, TRAINING, parameters))
    assert execution["status"] == "SUCCEEDED"
    output = json.loads(execution["output"])
    assert output["TrainingJobName"] == parameters["TrainingJobName"]
    assert output["TrainingJobStatus"] == "Completed"
    assert output["ModelArtifacts"]["S3ModelArtifacts"].endswith("/model.tar.gz")
    assert output["FinalMetricDataList"][0]["Value"] == 0.5
    assert isinstance(output["CreationTime"], str)


def test_a_training_job_that_fails_is_a_failed_task_with_its_description_as_cause(aws):
    execution = ended(aws, begin(aws, TRAINING, training(aws, "fail('the reason')")))
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(execution["cause"])
    assert cause["TrainingJobStatus"] == "Failed"
    assert "the reason" in cause["FailureReason"]


def test_a_refused_request_is_caught_by_the_services_name(aws):
    parameters = training(aws, "model()") | {"TrainingJobName": "not a name"}
    execution = ended(aws, begin(aws, TRAINING, parameters))
    assert (execution["status"], execution["error"]) == ("FAILED", "SageMaker.AmazonSageMakerException")
    assert "ValidationException" in execution["cause"]


def test_a_name_in_use_is_an_error_of_its_own(aws):
    name = aws.job("model()")["TrainingJobName"]
    execution = ended(aws, begin(aws, TRAINING, training(aws, "model()") | {"TrainingJobName": name}))
    assert execution["error"] == "SageMaker.ResourceInUseException"


def test_stopping_the_execution_stops_the_job(aws):
    parameters = training(aws, "(base / 'pid').write_text(str(os.getpid())); say('ready'); time.sleep(300)")
    arn = begin(aws, TRAINING, parameters)
    folder = aws.started(parameters["TrainingJobName"])
    aws.stepfunctions.stop_execution(executionArn=arn, error="Enough", cause="said so")
    job = aws.ended_job(parameters["TrainingJobName"])
    assert job["TrainingJobStatus"] == "Stopped"
    assert ended(aws, arn)["status"] == "ABORTED"
    (pid,) = folder.glob("*/pid")
    assert gone(int(pid.read_text()))


def test_a_task_over_its_time_stops_the_job(aws):
    parameters = training(aws, "time.sleep(300)")
    execution = ended(aws, begin(aws, TRAINING, parameters, TimeoutSeconds=1))
    assert (execution["status"], execution["error"]) == ("FAILED", "States.Timeout")
    assert aws.ended_job(parameters["TrainingJobName"])["TrainingJobStatus"] == "Stopped"


def test_a_tuning_job_answers_with_its_best_trial(aws):
    name = aws.name("tune")
    script = "say('objective=' + hyperparameters['x']); model()"
    execution = ended(
        aws,
        begin(
            aws,
            TUNING,
            {
                "HyperParameterTuningJobName": name,
                "HyperParameterTuningJobConfig": {
                    "Strategy": "Random",
                    "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "objective"},
                    "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 2},
                    "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]},
                },
                "TrainingJobDefinition": aws.definition(script, metrics=[("objective", r"objective=(\S+)")]),
            },
        ),
    )
    assert execution["status"] == "SUCCEEDED", execution.get("cause")
    best = json.loads(execution["output"])["BestTrainingJob"]
    assert float(best["TunedHyperParameters"]["x"]) == pytest.approx(
        best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    )


def test_a_failed_job_can_be_caught_by_the_state_machine(aws):
    parameters = training(aws, "fail('on purpose')")
    task = {
        "Type": "Task",
        "Resource": TRAINING,
        "Parameters": parameters,
        "Catch": [{"ErrorEquals": ["States.TaskFailed"], "Next": "Caught"}],
        "End": True,
    }
    definition = {"StartAt": "Work", "States": {"Work": task, "Caught": {"Type": "Pass", "End": True}}}
    machine = aws.stepfunctions.create_state_machine(
        name=aws.name("machine"), definition=json.dumps(definition), roleArn=SFN_ROLE
    )
    arn = aws.stepfunctions.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
    execution = ended(aws, arn)
    assert execution["status"] == "SUCCEEDED"
    assert "on purpose" in json.loads(execution["output"])["Cause"]


def test_a_plain_call_answers_at_once(aws):
    parameters = {
        "ModelName": aws.name("model"),
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {"Image": "image", "ModelDataUrl": "s3://bucket/model.tar.gz"},
    }
    execution = ended(aws, begin(aws, "arn:aws:states:::sagemaker:createModel", parameters))
    assert json.loads(execution["output"])["ModelArn"].endswith(parameters["ModelName"])
