"""The alarms that a deployment rolls back on (AutoRollbackConfiguration), as CloudWatch has them.

moto stores alarms and does not evaluate them; whoever sets a state by SetAlarmState is heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any

_LOOK_SECONDS = 0.5


def alarmed(cloudwatch: Callable[[], Any], deployment: Mapping[str, Any]) -> str:
    """Why the deployment is to be rolled back; empty if no alarm of it is on. `deployment` is a DeploymentConfig."""
    alarms = deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])
    names = [alarm["AlarmName"] for alarm in alarms]
    if not names:
        return ""
    found = cloudwatch().describe_alarms(AlarmNames=names, StateValue="ALARM")["MetricAlarms"]
    on = ", ".join(alarm["AlarmName"] for alarm in found if alarm["StateValue"] == "ALARM")
    return f"The deployment was rolled back: these alarms are in ALARM state: {on}" if on else ""


def bake(look: Callable[[], str], deployment: Mapping[str, Any], give_up: Event) -> str:
    """Look again and again while the old instances stay beside the new: why to go back to them; empty if not."""
    policy = deployment.get("BlueGreenUpdatePolicy", {})
    seconds = policy.get("TrafficRoutingConfiguration", {}).get("WaitIntervalInSeconds", 0)
    end = time.monotonic() + seconds
    while not (reason := look()) and time.monotonic() < end and not give_up.wait(_LOOK_SECONDS):
        pass
    return reason
