#!/usr/bin/env bash
# Sets up, builds and runs every test of Cenote. CI calls this and nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
# shellcheck source=third_party/progress.sh
. third_party/progress.sh

usage() {
  cat <<'HELP'
tests/run.sh [--setup-only] [--long] [--only NAME]...

Installs what is missing (third_party/install.sh), builds, and runs all tests. Each step's log lies in build/logs/tests.

  --setup-only   install only
  --long         ten thousand callers at one router, ten minutes in which nobody may be suspected, fuzz each target for two minutes, run
                 the whole matrix of faults, run the unit tests under the address and the thread sanitizer too, and the integration
                 tests on daemons with the thread sanitizer
  --only NAME    only these tests, with the builds they need: tidy, unit, python, integration, verbs, faults, fuzz, asan, tsan
                 (tsan implies --long)
  --help         this text

Exit code: 0 all passed, 1 a test or a build failed, 2 usage. The last line is "N passed, N failed[, N skipped]".

Example: ./tests/run.sh --only tidy --only unit
HELP
}

only=() long="" setup_only=""
while [ $# -gt 0 ]; do
  case $1 in
    --setup-only) setup_only=yes ;;
    --long) long=yes ;;
    --only)
      case ${2-} in
        tidy | unit | python | integration | verbs | faults | fuzz | asan) only+=("$2") ;;
        tsan) only+=(tsan) long=yes ;;
        *) echo "run.sh: --only '${2-}': use tidy, unit, python, integration, verbs, faults, fuzz, asan or tsan" >&2; exit 2 ;;
      esac
      shift ;;
    --help | -h) usage; exit 0 ;;
    *) echo "run.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
  esac
  shift
done
wants() { [ "${#only[@]}" -eq 0 ] || [[ " ${only[*]} " == *" $1 "* ]]; }
has() { compgen -G "$1" >/dev/null; }

./third_party/install.sh
[ -z "$setup_only" ] || exit 0

python=$root/.venv/bin/python
logs=$root/build/logs/tests
results=$logs/results
rm -rf "$results"
mkdir -p "$results"
progress_begin "$logs"

configure() { cmake --preset "$@"; }
build() { cmake --build --preset "$@"; }
run_ctest() {  # ID PRESET LABEL_OPTION LABELS
  local id=$1 preset=$2
  shift 2
  ctest --preset "$preset" "$@" --no-tests=ignore --output-junit "$results/$id.xml"
}
run_pytest() {  # ID BUILD FOLDER
  local slow=""
  [ "$2" != dev ] || slow=$long  # Ten thousand callers and ten minutes of silence are for plain builds.
  TESTS_LONG="$slow" CENOTE_BUILD=$root/build/$2 "$python" -m pytest "$3" -ra --durations=5 --junitxml "$results/$1.xml"
}

run_faults() {  # ARGUMENTS of tests/faults
  PYTHONPATH=$root/python CENOTE_BUILD=$root/build/dev "$python" -m tests.faults --junit "$results/faults.xml" "$@"
}

# Sanitizers write their reports to files: a daemon that died of one is restarted by its supervisor, and a test might not notice.
with_sanitizers() {  # COMMAND ID ARGUMENTS of run_ctest or run_pytest
  local code=0 report reports=$results/sanitizer.$2
  # A tensor of 2^62 bytes, which one test asks for, is refused and ends nothing.
  export ASAN_OPTIONS="log_path=$reports.address:detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:allocator_may_return_null=1"
  export UBSAN_OPTIONS="log_path=$reports.undefined:print_stacktrace=1"
  export LSAN_OPTIONS="suppressions=$root/tests/sanitizers/leaks.supp:print_suppressions=0"
  # gRPC, Abseil and libtorch are not instrumented; what gRPC does in order is said by tests/sanitizers/grpc_order.cc.
  TSAN_OPTIONS="log_path=$reports.thread:ignore_noninstrumented_modules=1:second_deadlock_stack=1:atexit_sleep_ms=100"
  export TSAN_OPTIONS="$TSAN_OPTIONS:allocator_may_return_null=1:suppressions=$root/tests/sanitizers/races.supp:print_suppressions=0"
  "$@" || code=$?
  for report in $(compgen -G "$reports.*" || true); do
    # The leak check looks into threads from outside; now and then one ends just then, and the check gives up. It found nothing. And what
    # is refused for its size is only warned of.
    if grep -qE 'LeakSanitizer has encountered a fatal error|AddressSanitizer failed to allocate' "$report" && ! grep -qE 'ERROR:|runtime error:' "$report"; then continue; fi
    echo "sanitizer report $report:"
    head -n 40 "$report"
    code=1
  done
  return "$code"
}
# Only the daemons are sanitized, and the program that stands for many callers. The Python in front of them keeps the plain module, which a plain interpreter can load.
build_sanitized_daemons() {  # PRESET
  configure "$1"
  build "$1" --target cenoted cenote-bench-router
  mkdir -p "build/$1/lib"
  ln -sf "$root"/build/dev/lib/_native*.so "build/$1/lib/"
}
build_fuzzers() {
  configure fuzz -DCENOTE_FUZZ_SECONDS="$([ -n "$long" ] && echo 120 || echo 3)"
  build fuzz --target cenote_fuzzers
}
build_sanitized_tests() { configure "$1"; build "$1" --target cenote_tests; }

planned=()
test_step() { planned+=("$1:$4"); plan "$@"; }

if wants tidy; then test_step tidy 10 test "tidy: edges, vendors, bans" run_pytest tidy dev tests/tidy; fi
if wants unit || wants python || wants integration || wants verbs || wants faults || wants asan || { [ -n "$long" ] && wants tsan; }; then
  plan configure 8 must "configure (preset dev)" configure dev
  plan build 420 must "build (preset dev)" build dev
fi
if wants unit; then
  exclude='^(fuzz|tidy|long)$'
  [ -z "$long" ] || exclude='^(fuzz|tidy)$'
  test_step unit 40 test "unit tests" run_ctest unit dev --label-exclude "$exclude" --parallel 2
fi
if wants python && has 'tests/python/test_*.py'; then
  test_step python 40 test "Python tests" run_pytest python dev tests/python
fi
if wants integration && has 'tests/integration/test_*.py'; then
  test_step integration 180 test "integration tests (real daemons)" run_pytest integration dev tests/integration
fi
# In QEMU guests with soft RoCE: no RDMA device is needed, nor hardware virtualisation. Where no guest can be had it says why.
if wants verbs; then
  test_step verbs 180 test "transport over verbs (QEMU guests)" run_pytest verbs dev tests/verbs
fi
if [ -n "$long" ]; then
  if wants faults; then test_step faults 1500 test "faults as a matrix" run_faults --long; fi
elif wants faults; then
  # The short form meets each fault once per role; which state it meets goes round with the commits, so that five of them see all.
  test_step faults 260 test "faults as a matrix (short form)" run_faults --rotation "$(($(git rev-list --count HEAD) % 5))"
fi
if wants fuzz && [ -f tests/fuzz/CMakeLists.txt ]; then
  if command -v clang++ >/dev/null; then
    test_step fuzz-build 250 test "build the fuzzers (preset fuzz)" build_fuzzers
    test_step fuzz 60 test "fuzz" run_ctest fuzz fuzz --label-regex '^fuzz$' --parallel 2
  else
    echo "fuzz: left out, clang++ is not installed"
  fi
fi
daemons_with() {  # PRESET SECONDS_OF_BUILD SECONDS
  test_step "$1-build" "$2" test "build the daemons with sanitizers (preset $1)" build_sanitized_daemons "$1"
  test_step "$1" "$3" test "integration tests on sanitized daemons (preset $1)" with_sanitizers run_pytest "$1" "$1" tests/integration
}
if wants asan && has 'tests/integration/test_*.py'; then daemons_with asan 400 300; fi
if [ -n "$long" ] && wants tsan && has 'tests/integration/test_*.py'; then daemons_with tsan 700 900; fi
if [ -n "$long" ]; then
  for preset in asan tsan; do
    if wants "$preset"; then
      test_step "$preset-unit-build" 700 test "build the unit tests (preset $preset)" build_sanitized_tests "$preset"
      test_step "$preset-unit" 120 test "unit tests (preset $preset)" \
        with_sanitizers run_ctest "$preset-unit" "$preset" --label-exclude '^(fuzz|tidy)$' --parallel 2
    fi
  done
fi

begin=$SECONDS
echo "Tests: ${#PROGRESS_IDS[@]} steps; logs in build/logs/tests"
run_plan

echo
echo "Took $(format_seconds $((SECONDS - begin)))."
[ -z "$PLAN_BROKEN" ] || echo "Step '$PLAN_BROKEN' failed, so the steps after it did not run. Its log: $logs/$PLAN_BROKEN.log"
for step in "${FAILED_STEPS[@]}"; do
  [ "$step" = "$PLAN_BROKEN" ] || echo "Step '$step' failed. Its log: $logs/$step.log; again, alone: ./tests/run.sh --only ${step%%-*}"
done
"$python" tests/summary.py --logs "$logs" --failed-steps "${FAILED_STEPS[*]-}" "${planned[@]}"
