# shellcheck shell=bash
# progress.sh - sourced by install.sh, tests/run.sh and AE/quickstart.sh: runs named steps one after another, says how far it is and how
# long the rest may take, keeps a log of each step, and names the step and its log when one fails.
#
#   progress_begin DIR                       logs to DIR/ID.log; DIR/ID.seconds remembers how long the last good run took
#   plan ID SECONDS KIND TITLE COMMAND...    KIND `must`: a failure ends the run; `test`: it is noted and the run goes on.
#                                            SECONDS is the guess until a run on this machine has been measured.
#   run_plan                                 always returns 0; PLAN_BROKEN names the `must` step that ended the run, FAILED_STEPS all
#                                            that failed. Call it plainly, never in `if` or `||`: bash would ignore `set -e` in steps.

PROGRESS_IDS=() PROGRESS_SECONDS=() PROGRESS_KINDS=() PROGRESS_TITLES=() PROGRESS_COMMANDS=()
FAILED_STEPS=() PLAN_BROKEN=""
PROGRESS_PID=""
PROGRESS_EVERY=${PROGRESS_EVERY:-30}  # Without a terminal, seconds between two signs of life.

progress_begin() {
  PROGRESS_DIR=$1
  mkdir -p "$PROGRESS_DIR"
  # A step runs in a process group of its own, so that an interrupt ends its children too.
  trap 'progress_interrupt INT 130' INT
  trap 'progress_interrupt TERM 143' TERM
}

progress_interrupt() {
  if [ -n "$PROGRESS_PID" ]; then
    kill "-$1" -- "-$PROGRESS_PID" 2>/dev/null || true
    wait "$PROGRESS_PID" 2>/dev/null || true
  fi
  printf '\ninterrupted; run the same command again to go on from here\n' >&2
  exit "$2"
}

plan() {
  local id=$1 seconds=$2
  if [ -s "$PROGRESS_DIR/$id.seconds" ]; then seconds=$(<"$PROGRESS_DIR/$id.seconds"); fi
  PROGRESS_IDS+=("$id") PROGRESS_SECONDS+=("$seconds") PROGRESS_KINDS+=("$3") PROGRESS_TITLES+=("$4")
  shift 4
  PROGRESS_COMMANDS+=("$(printf '%q ' "$@")")
}

format_seconds() {
  if [ "$1" -lt 100 ]; then printf '%d s' "$1"; else printf '%d min' $((($1 + 30) / 60)); fi
}

# Seconds left in step $1 that has run for $2: from ninja's "[done/all]" where the log has one, else from the plan. Sets DONE_TEXT.
step_seconds_left() {
  local expected=${PROGRESS_SECONDS[$1]} elapsed=$2 count
  DONE_TEXT=""
  count=$(tail -c 4000 "$PROGRESS_DIR/${PROGRESS_IDS[$1]}.log" 2>/dev/null | grep -aoE '^\[[0-9]+/[0-9]+\]' | tail -1 | tr -d '[]' || true)
  if [ -n "$count" ] && [ "${count%/*}" -gt 0 ]; then
    DONE_TEXT=", ${count%/*} of ${count#*/}"
    if [ "$elapsed" -gt 20 ]; then
      SECONDS_LEFT=$((elapsed * (${count#*/} - ${count%/*}) / ${count%/*}))
      return 0
    fi
  fi
  SECONDS_LEFT=$((expected > elapsed ? expected - elapsed : 1))
}

run_step() {
  local i=$1 seconds_after=$2 total=${#PROGRESS_IDS[@]}
  local id=${PROGRESS_IDS[$i]} title="[$((i + 1))/$total] ${PROGRESS_TITLES[$i]}"
  local log=$PROGRESS_DIR/$id.log begin=$SECONDS said=0 elapsed code=0 tty=""
  if [ -t 1 ]; then tty=yes; fi
  [ -n "$tty" ] || echo "$title: about $(format_seconds "${PROGRESS_SECONDS[$i]}"), in all $(format_seconds $((PROGRESS_SECONDS[i] + seconds_after))) left"
  set -m
  (set -euo pipefail; eval "${PROGRESS_COMMANDS[$i]}") </dev/null >"$log" 2>&1 &
  PROGRESS_PID=$!
  set +m
  while kill -0 "$PROGRESS_PID" 2>/dev/null; do
    elapsed=$((SECONDS - begin))
    if [ -n "$tty" ]; then
      step_seconds_left "$i" "$elapsed"
      printf '\r\033[K%s: %s%s, about %s left' "$title" "$(format_seconds "$elapsed")" "$DONE_TEXT" \
        "$(format_seconds $((SECONDS_LEFT + seconds_after)))"
    elif [ $((elapsed / PROGRESS_EVERY)) -gt "$said" ]; then
      said=$((elapsed / PROGRESS_EVERY))
      step_seconds_left "$i" "$elapsed"
      echo "      $(format_seconds "$elapsed")$DONE_TEXT, about $(format_seconds $((SECONDS_LEFT + seconds_after))) left"
    fi
    sleep 0.5
  done
  wait "$PROGRESS_PID" || code=$?
  PROGRESS_PID=""
  elapsed=$((SECONDS - begin))
  [ -z "$tty" ] || printf '\r\033[K'
  if [ "$code" -ne 0 ]; then
    echo "$title: FAILED after $(format_seconds "$elapsed") (exit code $code). The end of its log, $log:"
    tail -n 25 "$log" | sed 's/^/    | /'
    FAILED_STEPS+=("$id")
    [ "${PROGRESS_KINDS[$i]}" != must ] || PLAN_BROKEN=$id
    return 0
  fi
  echo "$elapsed" >"$PROGRESS_DIR/$id.seconds"
  echo "$title: $(format_seconds "$elapsed")"
}

run_plan() {
  local i j after
  for i in "${!PROGRESS_IDS[@]}"; do
    after=0
    for ((j = i + 1; j < ${#PROGRESS_IDS[@]}; j++)); do after=$((after + PROGRESS_SECONDS[j])); done
    run_step "$i" "$after"
    if [ -n "$PLAN_BROKEN" ]; then return 0; fi
  done
}
