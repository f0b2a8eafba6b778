#!/bin/sh
# Installs with pip into the environment /opt/venv of an image, as a layer of its own: a folder that is copied to /.
#
#   install.sh LAYER PIP-ARGUMENTS…
#
# Versions are those of /project/constraints.txt, also of what builds a package. The same inputs give the same bytes,
# whenever that is done. Bytecode is compiled here, for images are read-only: without time stamps in it, in a fixed
# order, under the name that a file will have. Every file and folder gets one time, for a layer is a tar and holds
# them. The packages' own tests are left out.
set -eu
layer=$1
shift
export PIP_CONSTRAINT=/project/constraints.txt PIP_BUILD_CONSTRAINT=/project/constraints.txt
export CFLAGS=-g0  # debugging symbols hold the name of a temporary folder
export PYTHONHASHSEED=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --prefix "$layer/opt/venv" "$@"
find "$layer" -type d -name tests -prune -exec rm -r {} +
# -S: what is imported already compiles to other bytes
/opt/venv/bin/python -S -m compileall -q --invalidation-mode unchecked-hash -s "$layer" -p / "$layer/opt/venv/lib" \
  || echo "What did not compile is for another Python; it stays as it is."
find "$layer" -exec touch --no-dereference --date=@"${SOURCE_DATE_EPOCH:-0}" {} +
