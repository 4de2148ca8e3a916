#!/usr/bin/env bash
# Sets up, builds release binaries only, and hands over to the quick start: a cluster on this machine that answers real requests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
# shellcheck source=third_party/progress.sh
. third_party/progress.sh

usage() {
  cat <<'HELP'
AE/quickstart.sh [--setup-only] [ARGUMENT]...

Installs what is missing (third_party/install.sh --run-only), builds the release binaries into build/release, then starts a cluster
on this machine and runs the main job on it. A second run starts at once.

  --setup-only   install and build only
  --help         this text
  ARGUMENT...    handed to the quick start itself; `--` before them if they look like the above

Example: ./AE/quickstart.sh
HELP
}

setup_only="" arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --setup-only) setup_only=yes ;;
    --help | -h) usage; exit 0 ;;
    --) shift; arguments+=("$@"); break ;;
    *) arguments+=("$1") ;;
  esac
  shift
done

./third_party/install.sh --run-only

progress_begin "$root/build/logs/quickstart"
configure() { cmake --preset release; }
build() { cmake --build --preset release; }
if [ ! -f build/release/build.ninja ]; then plan configure 8 must "configure (preset release)" configure; fi
plan build 300 must "build the release binaries" build
echo "Build: into build/release; logs in build/logs/quickstart"
run_plan
[ -z "$PLAN_BROKEN" ] || exit 1
if [ -n "$setup_only" ]; then
  echo "Ready: ./AE/quickstart.sh starts the cluster, .venv/bin/cenote --help lists the commands"
  exit 0
fi
export CENOTE_BUILD=$root/build/release
exec "$root/.venv/bin/python" -m cenote.quickstart "${arguments[@]}"
