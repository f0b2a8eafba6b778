"""The alarms that a deployment rolls back on (AutoRollbackConfiguration), as CloudWatch has them now.

The local AWS looks at them once, when the new instances answer: it shifts all traffic at once. moto stores alarms and
does not evaluate them; whoever sets a state by SetAlarmState is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def alarmed(cloudwatch: Callable[[], Any], deployment: Mapping[str, Any]) -> str:
    """Why the deployment is to be rolled back; empty if no alarm of it is on. `deployment` is a DeploymentConfig."""
    alarms = deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])
    names = [alarm["AlarmName"] for alarm in alarms]
    if not names:
        return ""
    found = cloudwatch().describe_alarms(AlarmNames=names, StateValue="ALARM")["MetricAlarms"]
    on = ", ".join(alarm["AlarmName"] for alarm in found if alarm["StateValue"] == "ALARM")
    return f"The deployment was rolled back: these alarms are in ALARM state: {on}" if on else ""
