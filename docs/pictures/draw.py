"""Draws docs/pictures: the state machine and the network (from their documents), the data flow, the sample.

Needs Graphviz's `dot`. Run it after `make definition`: `.venv/bin/python docs/pictures/draw.py`.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from kennel import sample
from kennel.pipeline import template

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
STYLE = """
  graph [rankdir=LR fontname="DejaVu Sans" bgcolor="white" pad=0.2 nodesep=0.25 ranksep=0.35 splines=spline]
  node  [fontname="DejaVu Sans" fontsize=11 shape=box style="rounded,filled"
         fillcolor="#eef4fb" color="#4a7ab5" penwidth=1.2]
  edge  [fontname="DejaVu Sans" fontsize=9 color="#666666" arrowsize=0.7]
"""
LOOKS = {
    "Choice": 'shape=diamond style=filled fillcolor="#fff7e0" color="#c79a2b" fontsize=9',
    "Succeed": 'fillcolor="#e3f4e3" color="#3c8d40"',
    "Fail": 'fillcolor="#fbe7e6" color="#c0453c"',
    "Wait": 'fillcolor="#f3f0fa" color="#7d6bb0"',
    "Pass": 'fillcolor="#f6f6f6" color="#999999" fontsize=9',
}
AFTERMATH = {"RestorePreviousEndpoint", "DeleteEndpoint", "Notify", "HadEndpoint?", "EndpointRolledBack?"}
DATA_FLOW = """
  images [label="train/ valid/ test/\\nimages" shape=folder fillcolor="#fff7e0" color="#c79a2b"]
  s3 [label="S3\\ndata, models,\\nuploads, predictions" shape=cylinder fillcolor="#e3f4e3" color="#3c8d40"]
  run [label="statemachine/run.py\\nconfig/*.toml"]
  states [label="Step Functions\\npipeline.asl.json"]
  tuning [label="tuning job\\ntrials, two at a time"]
  training [label="training job\\nalgo-1 … algo-N, one process group"]
  endpoint [label="endpoint\\ninstances of `serve`"]
  function [label="function\\nlambda/classify.py"]
  caller [label="you, a browser,\\nan API" shape=oval fillcolor="white"]
  images -> s3 [label="upload"]
  run -> states [label="input"]
  states -> tuning
  tuning -> training [label="best hyperparameters"]
  s3 -> tuning [label="channel"]
  s3 -> training [label="channel"]
  training -> s3 [label="model.tar.gz"]
  s3 -> endpoint [label="model.tar.gz"]
  states -> endpoint [label="create, update, scale"]
  states -> function [label="configure, version, alias"]
  caller -> function [label="image or URL"]
  caller -> endpoint [label="image"]
  s3 -> function [label="event: uploads/"]
  function -> endpoint [label="InvokeEndpoint"]
  function -> s3 [label="predictions/"]
"""


def successors(state: dict[str, Any]) -> list[tuple[str, bool]]:
    """Where a state leads, and whether that is the way of a failure."""
    found = [(state["Next"], False)] if "Next" in state else []
    found += [(choice["Next"], False) for choice in state.get("Choices", [])]
    found += [(state["Default"], False)] if "Default" in state else []
    found += [(catch["Next"], True) for catch in state.get("Catch", [])]
    return list(dict.fromkeys(found))


def seen_as(name: str) -> str:
    """The name under which a state is drawn: the states of a waiting loop are one."""
    for waited_for in ("Endpoint", "Function"):
        loop = (f"Start{waited_for}Polls", f"Describe{waited_for}", f"{waited_for}Ready?", f"Count{waited_for}Poll")
        if name in loop:
            return f"WaitFor{waited_for}"
    return name


def state_machine() -> str:
    """The document as a graph. Every Task may fail; those edges would hide the rest and are one note."""
    document = json.loads((ROOT / "statemachine" / "pipeline.asl.json").read_text())
    lines = ["digraph states {", STYLE.replace("rankdir=LR", "rankdir=TB").replace("ranksep=0.35", "ranksep=0.22")]
    lines.append('  start [label="" shape=circle width=0.15 fillcolor="#444444" color="#444444"]')
    lines.append(f'  start -> "{document["StartAt"]}"')
    edges: dict[tuple[str, str], str] = {}
    for name, state in document["States"].items():
        shown = seen_as(name)
        if shown == name:
            lines.append(f'  "{name}" [{LOOKS.get(state["Type"], "")}]')
        for following, failure in successors(state):
            target = seen_as(following)
            if shown == target:
                continue
            if not failure:
                edges.setdefault((shown, target), "")
            elif following not in AFTERMATH and following != "Failed":
                edges.setdefault((shown, target), ' [style=dashed label=" not found"]')
    lines += [f'  "{source}" -> "{target}"{look}' for (source, target), look in edges.items()]
    lines.append(
        '  any [label="any Task that fails\\nafter its retries" shape=note fillcolor="#fbe7e6" color="#c0453c"]'
        ' any -> "HadEndpoint?" [style=dashed label=" once the endpoint\\n was touched"]'
        ' any -> "Notify" [style=dashed label=" before"]'
    )
    return "\n".join([*lines, "}"])


CALLERS = {
    "TrainingSecurityGroup": "hosts of training jobs,\\nan EC2 instance that trains",
    "ServingSecurityGroup": "instances of the endpoint",
    "FunctionSecurityGroup": "the function",
}


def network() -> str:
    """Who may talk to whom, from the security groups and endpoints of the template."""
    read = template.read((ROOT / "statemachine" / "infrastructure.yaml").read_text())
    lines = ["digraph network {", STYLE, '  subgraph cluster_vpc { label="VPC: no internet gateway, no NAT"']
    lines += ['  fontname="DejaVu Sans" fontsize=11 style="rounded" color="#888888" bgcolor="#fafafa"']
    zones = " and ".join(subnet.text("CidrBlock") for subnet in read.of_type("AWS::EC2::Subnet"))
    lines.append(f'  subgraph cluster_subnets {{ label="private subnets in two zones: {zones}" bgcolor="white"')
    for group, who in CALLERS.items():
        lines.append(f'    {group} [label="{who}\\n{group}" fillcolor="#eef4fb"]')
    interfaces = [end for end in read.of_type("AWS::EC2::VPCEndpoint") if end.text("VpcEndpointType") == "Interface"]
    named = "\\n".join(end.text("ServiceName").rpartition("${AWS::Region}.")[2] for end in interfaces)
    lines.append(
        f'    EndpointsSecurityGroup [label="interface endpoints\\n{named}" fillcolor="#f3f0fa" color="#7d6bb0"] }}'
    )
    lines.append(
        '  S3Endpoint [label="S3 gateway endpoint\\nits policy: our bucket, image layers"'
        ' fillcolor="#e3f4e3" color="#3c8d40"] }'
    )
    lines.append('  s3 [label="S3" shape=cylinder fillcolor="#e3f4e3" color="#3c8d40"] S3Endpoint -> s3')
    lines.append('  aws [label="SageMaker runtime,\\nECR" fillcolor="white"] EndpointsSecurityGroup -> aws')
    for group in read.of_type("AWS::EC2::SecurityGroup"):
        if group.id in CALLERS and group.text("SecurityGroupEgress.0.DestinationPrefixListId"):
            lines.append(f'  {group.id} -> S3Endpoint [label="443"]')
    for rule in read.of_type("AWS::EC2::SecurityGroupEgress"):
        source, target = (rule.text(end).strip("${}") for end in ("GroupId", "DestinationSecurityGroupId"))
        port = rule.text("FromPort") or "all, encrypted"
        lines.append(f'  {source} -> {target} [label="{port}"]')
    return "\n".join([*lines, "}"])


def draw(name: str, graph: str) -> None:
    """Write docs/pictures/`name`.svg."""
    subprocess.run(["dot", "-Tsvg", "-o", str(HERE / f"{name}.svg")], input=graph.encode(), check=True)


def sample_sheet() -> None:
    """One row of pictures per class, from a freshly drawn sample."""
    with tempfile.TemporaryDirectory() as folder:
        sample.generate(Path(folder) / "sample", seed=7)
        classes = sorted((Path(folder) / "sample" / "train").iterdir())
        side, columns = 88, 10
        sheet = Image.new("RGB", (side * len(classes), side * 3), "white")
        for column, found in enumerate(classes[:columns]):
            for row, path in enumerate(sorted(found.iterdir())[:3]):
                with Image.open(path) as image:
                    sheet.paste(image.convert("RGB").resize((side - 4, side - 4)), (column * side + 2, row * side + 2))
        sheet.save(HERE / "sample.jpg", quality=85)


if __name__ == "__main__":
    draw("state-machine", state_machine())
    draw("network", network())
    draw("data-flow", f"digraph flow {{{STYLE}{DATA_FLOW}}}")
    sample_sheet()
