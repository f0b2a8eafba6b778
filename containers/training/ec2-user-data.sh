#!/bin/bash
# One training job on an EC2 instance of its own, under the contract of SageMaker's training containers.
#
# kennel.pipeline.ec2_training puts the parameters before these lines as assignments, quoted for a shell. What is used
# here is on AWS's Deep Learning Base AMI: bash, coreutils, curl, tar, aws, docker, and the python3 of cloud-init.
# The instance terminates itself when this ends, and at the time limit if this never does.
set -euo pipefail

trap 'shutdown -h now' EXIT
shutdown -h "+${TIME_LIMIT_MINUTES:?}"  # the instance ends after that many, whatever happens

: "${JOB:?}"                      # name of the job
: "${IMAGE:?}"                    # the training image, by its digest
: "${REGION:?}"
: "${CHANNELS?}"                  # a line each: name, space, s3:// URI
: "${HYPERPARAMETERS:?}"          # three documents of /opt/ml/input/config, as JSON
: "${RESOURCE_CONFIG:?}"
: "${INPUT_DATA_CONFIG:?}"
: "${OUTPUT_URI:?}"               # s3:// prefix for model.tar.gz, train.log and status.json
: "${CHECKPOINT_URI:?}"           # s3:// prefix for what is in /opt/ml/checkpoints
: "${MAX_RUNTIME_SECONDS:?}"      # a training that runs longer is stopped
: "${SYNC_SECONDS:?}"             # between two uploads of checkpoints and log
: "${SPOT:?}"                     # yes: the instance may be interrupted

BASE=${SAGEMAKER_BASE_DIR:-/opt/ml}
METADATA=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
CONTAINER=training
GRACE_SECONDS=120                 # between SIGTERM and SIGKILL, as on SageMaker
INTERRUPTION_GRACE_SECONDS=30     # EC2 takes a spot instance two minutes after it says so
INTERRUPTION_POLL_SECONDS=5
export AWS_DEFAULT_REGION=$REGION

work=$(mktemp -d)
log=$work/train.log
step="starting"                   # what is being done
stopped=""                        # why the training was stopped
failed=""                         # what went wrong, if it was not the training
container=""                      # process id of the docker client that runs it
exit_status=""

# The log is what this prints, and goes to the console of the instance, too.
exec 3>&1 4>&2 > >(trap '' TERM && exec tee "$log") 2>&1
tee=$!

step() {
  step=$1
  echo "kennel: $step"
}

upload() { # file, name
  aws s3 cp --only-show-errors "$1" "$OUTPUT_URI/$2"
}

holds_something() { # folder
  [ -n "$(find "$1" -mindepth 1 -print -quit 2> /dev/null)" ]
}

sync_checkpoints() {
  # what a job leaves is not read through links; a folder that is one holds nothing for find
  holds_something "$BASE/checkpoints" || return 0
  # a file is there under its own name once it is complete
  aws s3 sync --only-show-errors --no-follow-symlinks --exclude '*.partial' "$BASE/checkpoints" "$CHECKPOINT_URI"
}

sync_all() {
  sync_checkpoints || echo "kennel: the checkpoints could not be uploaded; going on"
  upload "$log" train.log || echo "kennel: the log could not be uploaded; going on"
}

stop() { # why, seconds of grace
  stopped=${stopped:-$1}
  echo "kennel: stopping: $1"
  if [ -n "$container" ]; then
    docker stop --time "$2" "$CONTAINER" > /dev/null || true
  fi
}

interrupted() { # whether EC2 has said that it takes the instance away
  local token
  [ "${AWS_EC2_METADATA_DISABLED:-false}" != true ] || return 1
  token=$(curl --silent --fail --max-time 2 --request PUT "$METADATA/latest/api/token" \
    --header "X-aws-ec2-metadata-token-ttl-seconds: 60") || return 1
  curl --silent --fail --max-time 2 --output /dev/null "$METADATA/latest/meta-data/spot/instance-action" \
    --header "X-aws-ec2-metadata-token: $token"
}

upload_model() { # of a stopped training, whatever there is
  local odd
  # no reader of model.tar.gz takes a link
  odd=$(find "$BASE/model" ! -type d ! -type f -print -quit)
  if [ -n "$odd" ]; then
    failed="AlgorithmError: $odd is neither a regular file nor a folder"
  elif holds_something "$BASE/model"; then
    (cd "$BASE/model" && find . -mindepth 1 -printf '%P\0' | sort --zero-terminated \
      | tar --create --no-recursion --owner=0 --group=0 --numeric-owner --mtime=@0 --null --files-from=- \
      | gzip --fast --no-name > "$work/model.tar.gz") && upload "$work/model.tar.gz" model.tar.gz \
      || failed="the model could not be uploaded; train.log says why"
  elif [ -z "$stopped" ]; then
    failed="AlgorithmError: the training wrote nothing to /opt/ml/model, so there is no model"
  fi
}

write_status() { # Completed, Failed or Stopped; why, unless the training said it itself
  python3 - "$1" "$2" "$exit_status" "$BASE/output/failure" "$log" > "$work/status.json" << 'END'
import json, os, sys

status, reason, exit_status, left, log = sys.argv[1:]
if not reason and status == "Failed" and not os.path.islink(left) and not os.path.islink(os.path.dirname(left)):
    try:
        with open(left, encoding="utf-8", errors="replace") as file:
            reason = file.read(1024).strip()
    except OSError:
        pass
if not reason and status == "Failed":
    with open(log, encoding="utf-8", errors="replace") as file:
        reason = "the training left no reason; its last lines:\n" + "".join(file.readlines()[-15:])
document = {"Status": status, "FailureReason": reason[:1024], "ExitStatus": int(exit_status) if exit_status else None}
print(json.dumps(document))
END
}

finish() { # whatever happened; the status comes last, so that whoever sees it sees the rest
  trap - EXIT
  trap '' TERM
  set +e
  if [ -n "$container" ]; then
    wait "$container"
    exit_status=$?
  fi
  sync_checkpoints
  if [ -n "$stopped" ] || [ "$exit_status" = 0 ]; then
    upload_model
  fi
  exec >&3 2>&4
  wait "$tee"
  if [ -n "$stopped" ]; then
    write_status Stopped "$stopped"
  elif [ -n "$failed" ]; then
    write_status Failed "$failed"
  elif [ "$exit_status" = 0 ]; then
    write_status Completed ""
  elif [ -n "$exit_status" ]; then
    write_status Failed ""
  else
    write_status Failed "$step failed; the last lines: $(tail --lines=5 "$log")"
  fi
  upload "$log" train.log
  upload "$work/status.json" status.json
  shutdown -h now
}
trap finish EXIT
trap 'stop "the instance was shut down" "$GRACE_SECONDS"; exit 143' TERM

step "making $BASE"
mkdir -p "$BASE"/{input/config,input/data,model,checkpoints,output/data,code}
printf '%s' "$HYPERPARAMETERS" > "$BASE/input/config/hyperparameters.json"
printf '%s' "$RESOURCE_CONFIG" > "$BASE/input/config/resourceconfig.json"
printf '%s' "$INPUT_DATA_CONFIG" > "$BASE/input/config/inputdataconfig.json"

registry=${IMAGE%%/*}
if [[ $IMAGE == */* && $registry == *[.:]* ]]; then
  step "logging in to $registry"
  aws ecr get-login-password | docker login --username AWS --password-stdin "$registry"
fi
step "pulling $IMAGE"
docker pull --quiet "$IMAGE"

while read -r channel uri; do
  step "downloading channel $channel from $uri"
  folder=$BASE/input/data/$channel
  mkdir -p "$folder"
  aws s3 sync --only-show-errors "$uri" "$folder"
  # a prefix may as well be the key of one object
  holds_something "$folder" || aws s3 cp --only-show-errors "$uri" "$folder/"
done < <(if [ -n "$CHANNELS" ]; then printf '%s\n' "$CHANNELS"; fi)
step "downloading checkpoints from $CHECKPOINT_URI"
aws s3 sync --only-show-errors "$CHECKPOINT_URI" "$BASE/checkpoints"

step "training"
options=(--rm --name "$CONTAINER" --network none --cap-drop ALL --security-opt no-new-privileges --pids-limit 4096)
# the engine's own 64 MB are too few for the workers of a data loader
options+=(--shm-size "$(awk '/^MemTotal:/ { print int($2 / 2) "k" }' /proc/meminfo)")
options+=(--volume "$BASE:/opt/ml" --env "TRAINING_JOB_NAME=$JOB")
if command -v nvidia-smi > /dev/null && nvidia-smi > /dev/null; then
  options+=(--gpus all)
fi
docker run "${options[@]}" "$IMAGE" train < /dev/null &
container=$!

began=$SECONDS synced=$SECONDS polled=$SECONDS
while true; do
  sleep 1 > /dev/null 2>&1 3>&- 4>&- &
  wait -n "$container" $! || true # whichever ends first
  kill -0 "$container" 2> /dev/null || break
  if ((SECONDS - began >= MAX_RUNTIME_SECONDS)); then
    stop "the training ran longer than $MAX_RUNTIME_SECONDS s" "$GRACE_SECONDS"
    break
  fi
  if ((SECONDS - synced >= SYNC_SECONDS)); then
    sync_all
    synced=$SECONDS
  fi
  if [ "$SPOT" = yes ] && ((SECONDS - polled >= INTERRUPTION_POLL_SECONDS)); then
    polled=$SECONDS
    if interrupted; then
      sync_checkpoints || true
      stop "EC2 interrupted the spot instance" "$INTERRUPTION_GRACE_SECONDS"
      break
    fi
  fi
done
