"""Tuning jobs over HTTP, whose trials are real training jobs."""

import re

import pytest
from botocore.exceptions import ClientError

from local_rig import ENDED, wait_for

RANGE = {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "-1", "MaxValue": "1"}]}
METRICS = [("objective", r"objective=(\S+)")]
PARABOLA = "x = float(hyperparameters['x']); say(f'objective={x * x}'); model()"


def start(aws, script, *, most=4, parallel=2, kind="Minimize", strategy="Random", ranges=RANGE, tags=(), **definition):
    name = aws.name("tune")
    aws.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name,
        HyperParameterTuningJobConfig={
            "Strategy": strategy,
            "HyperParameterTuningJobObjective": {"Type": kind, "MetricName": "objective"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": most, "MaxParallelTrainingJobs": parallel},
            "ParameterRanges": ranges,
        },
        TrainingJobDefinition=aws.definition(script, **{"metrics": METRICS, **definition}),
        Tags=list(tags),
    )
    return name


def described(aws, name):
    return aws.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def ended(aws, name):
    return wait_for(lambda: described(aws, name), lambda job: job["HyperParameterTuningJobStatus"] in ENDED, 40)


def trials(aws, name, **request):
    answer = aws.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, **request
    )
    return answer["TrainingJobSummaries"]


def values(found):
    return [trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for trial in found]


@pytest.mark.parametrize(("kind", "best"), [("Minimize", min), ("Maximize", max)])
def test_the_best_trial_has_the_best_objective_and_the_hyperparameters_that_gave_it(aws, kind, best):
    name = start(aws, PARABOLA, kind=kind, strategy="Bayesian")
    job = ended(aws, name)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    all_trials = trials(aws, name)
    assert len(all_trials) == 4
    chosen = job["BestTrainingJob"]
    objective = chosen["FinalHyperParameterTuningJobObjectiveMetric"]
    assert objective["Value"] == best(values(all_trials))
    assert (objective["MetricName"], objective["Type"]) == ("objective", kind)
    tuned = chosen["TunedHyperParameters"]
    assert float(tuned["x"]) ** 2 == pytest.approx(objective["Value"])
    own = aws.sagemaker.describe_training_job(TrainingJobName=chosen["TrainingJobName"])
    assert own["HyperParameters"] == {**tuned, "_tuning_objective_metric": "objective"}
    assert own["TuningJobArn"] == job["HyperParameterTuningJobArn"]


def test_trials_are_as_isolated_as_the_definition_asks_for(aws):
    name = start(aws, PARABOLA, most=1, parallel=1, EnableNetworkIsolation=True)
    assert ended(aws, name)["HyperParameterTuningJobStatus"] == "Completed"
    (trial,) = trials(aws, name)
    (asked,) = (asked for asked in aws.runtime.asked if asked.get("job") == trial["TrainingJobName"])
    assert asked["isolated"] is True


def test_as_many_trials_run_as_asked_for_and_no_more_at_once(aws):
    script = "say('t ' + str(time.monotonic())); time.sleep(0.3); say('t ' + str(time.monotonic())); " + PARABOLA
    name = start(aws, script, most=5, parallel=2)
    job = ended(aws, name)
    assert job["TrainingJobStatusCounters"]["Completed"] == job["ObjectiveStatusCounters"]["Succeeded"] == 5
    changes = []
    for trial in trials(aws, name):
        log = (aws.server_dir / "training-jobs" / trial["TrainingJobName"] / "algo-1.log").read_text()
        begin, end = (float(found) for found in re.findall(r"^t (\S+)$", log, re.MULTILINE))
        changes += [(begin, 1), (end, -1)]
    running = [sum(change for _, change in sorted(changes)[: index + 1]) for index in range(len(changes))]
    assert max(running) == 2


def test_failed_trials_are_counted_and_the_search_goes_on(aws):
    script = (
        """
count = base.parent.parent / f"count-{os.environ['TRAINING_JOB_NAME'].rsplit('-', 2)[0]}"
with count.open("a") as file: file.write("x")
if len(count.read_text()) in (1, 3): fail("unlucky")
"""
        + PARABOLA
    )
    job = ended(aws, start(aws, script, parallel=1))
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    counters = job["TrainingJobStatusCounters"]
    assert (counters["Completed"], counters["NonRetryableError"]) == (2, 2)
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 0, "Failed": 2}
    failed = trials(aws, job["HyperParameterTuningJobName"], StatusEquals="Failed")
    assert ["unlucky" in trial["FailureReason"] for trial in failed] == [True, True]


def test_when_every_trial_fails_the_first_reason_is_told(aws):
    job = ended(aws, start(aws, "fail('no data at all')", most=2))
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert "All training jobs failed" in job["FailureReason"]
    assert "no data at all" in job["FailureReason"]
    assert "BestTrainingJob" not in job


@pytest.mark.parametrize("said", ["objective=nan", "objective=inf", "nothing"])
def test_trials_that_report_no_number_have_no_objective(aws, said):
    job = ended(aws, start(aws, f"say({said!r}); model()", most=1, parallel=1))
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert "No training job reported a number" in job["FailureReason"]
    assert job["ObjectiveStatusCounters"]["Failed"] == 1


def test_a_stopped_tuning_job_stops_its_trials_and_starts_no_more(aws):
    name = start(aws, "say('ready'); time.sleep(300)", most=6, parallel=2)
    running = wait_for(
        lambda: trials(aws, name), lambda found: [t["TrainingJobStatus"] for t in found] == ["InProgress"] * 2
    )
    for trial in running:
        aws.started(trial["TrainingJobName"])
    aws.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    job = ended(aws, name)
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    assert job["TrainingJobStatusCounters"]["Stopped"] == len(trials(aws, name)) == 2


def test_trials_can_be_listed_by_their_objective(aws):
    name = start(aws, PARABOLA, most=3, parallel=3)
    ended(aws, name)
    found = values(trials(aws, name, SortBy="FinalObjectiveMetricValue", SortOrder="Ascending"))
    assert found == sorted(found)
    found = values(trials(aws, name, SortBy="FinalObjectiveMetricValue", SortOrder="Descending"))
    assert found == sorted(found, reverse=True)


def test_integer_and_categorical_parameters_reach_the_trial_as_strings(aws):
    ranges = {
        "IntegerParameterRanges": [{"Name": "n", "MinValue": "2", "MaxValue": "2"}],
        "CategoricalParameterRanges": [{"Name": "x", "Values": ["0.5"]}],
    }
    job = ended(aws, start(aws, PARABOLA, most=1, parallel=1, ranges=ranges, StaticHyperParameters={"epochs": "3"}))
    assert job["BestTrainingJob"]["TunedHyperParameters"] == {"n": "2", "x": "0.5"}
    trial = aws.sagemaker.describe_training_job(TrainingJobName=job["BestTrainingJob"]["TrainingJobName"])
    assert trial["HyperParameters"]["epochs"] == "3"


def test_tags_of_a_tuning_job_are_its_trials_too(aws):
    tags = [{"Key": "team", "Value": "dogs"}]
    job = ended(aws, start(aws, PARABOLA, most=1, parallel=1, tags=tags))
    for arn in (job["HyperParameterTuningJobArn"], job["BestTrainingJob"]["TrainingJobArn"]):
        assert aws.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"hosts": 0}, "ValidationException"),
        ({"metrics": [("other", "x=(.*)")]}, "ValidationException"),
        ({"strategy": "Hyperband"}, "ValidationException"),
        ({"strategy": "Magic"}, "ValidationException"),
        ({"most": 0}, "ValidationException"),
        ({"ranges": {}}, "ValidationException"),
        ({"StaticHyperParameters": {"x": "1"}}, "ValidationException"),
    ],
)
def test_what_cannot_be_tuned_is_refused(aws, changes, code):
    with pytest.raises(ClientError) as caught:
        start(aws, PARABOLA, **changes)
    assert caught.value.response["Error"]["Code"] == code


def test_tuning_jobs_are_found_by_name_and_a_name_is_used_once(aws):
    name = start(aws, PARABOLA, most=1, parallel=1)
    (summary,) = aws.sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name)["HyperParameterTuningJobSummaries"]
    assert (summary["HyperParameterTuningJobName"], summary["Strategy"]) == (name, "Random")
    job = described(aws, name)
    with pytest.raises(ClientError) as caught:
        aws.sagemaker.create_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name,
            HyperParameterTuningJobConfig=job["HyperParameterTuningJobConfig"],
            TrainingJobDefinition=aws.definition(PARABOLA, metrics=METRICS),
        )
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    with pytest.raises(ClientError) as caught:
        described(aws, "nobody")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFound"
    ended(aws, name)
