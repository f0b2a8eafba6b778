#!/bin/sh
# Installs with pip into a folder of /opt so that the same inputs give the same bytes, whenever that is done.
#
#   install.sh FOLDER PIP-ARGUMENTS…
#
# The packages' own tests are left out. Bytecode is compiled here, for images are read-only: without time stamps
# in it, in a fixed order. And every file gets one time, for a layer is a tar and holds them.
set -eu
folder=$1
shift
export PYTHONHASHSEED=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
pip --python /opt/venv/bin/python install --no-cache-dir --no-compile "$@"
find "$folder" -type d -name tests -prune -exec rm -r {} +
/opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash "$folder/lib" \
  || echo "What did not compile is for another Python; it stays as it is."
find "$folder" -exec touch --no-dereference --date=@"${SOURCE_DATE_EPOCH:-0}" {} +
