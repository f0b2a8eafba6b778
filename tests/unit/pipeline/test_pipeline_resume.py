"""An execution goes on with what it had come to before it failed."""

import json

from kennel.pipeline import resume

ASKED = {"Mode": "train", "Network": {"KmsKeyId": "k"}, "Tuning": {}, "Training": {}, "Model": {"Image": "i"}}


def entered(name, **more):
    return {
        "type": "TaskStateEntered",
        "stateEnteredEventDetails": {"name": name, "input": json.dumps({**ASKED, **more})},
    }


OTHER = {"type": "TaskScheduled"}


def test_what_a_job_came_to_is_kept():
    events = [entered("TuneHyperparameters"), OTHER, entered("TrainModel", TuningJob={"BestTrainingJob": {}}), OTHER]
    assert resume.come_to(events) == {**ASKED, "Mode": "resume", "TuningJob": {"BestTrainingJob": {}}}


def test_what_came_after_the_failure_is_not():
    failed = entered("Notify", TuningJob={}, TrainingJob={}, Failure={"Error": "States.TaskFailed"})
    assert resume.come_to([entered("TuneHyperparameters"), failed]) == {**ASKED, "Mode": "resume"}


def test_what_is_known_of_the_endpoint_is_found_out_anew():
    found = resume.come_to([entered("DescribeEndpoint", PreviousEndpoint={"EndpointConfigName": "old"}, Deployment={})])
    assert found.keys() == ASKED.keys()


def test_an_execution_that_had_come_to_nothing_has_nothing_to_go_on_with():
    assert resume.come_to([]) == {"Mode": "resume"}
