#!/bin/sh
# The checks of cgroup.sh: the first process of the emulated machine, which it switches off.
#
# Each check is a function that is given a folder of its own. It says `ok` or `fail` at least once;
# what a failing one has written there is shown.

groups=/sys/fs/cgroup
mib=1048576
# Processes of every kind below a command: in its pipeline, in the background, in a session of
# their own, orphaned, and without the marker in their environment.
tree='sleep 1000 | sleep 1000 & setsid sleep 1000 & (setsid sleep 1000 &); \
    (env -i setsid sleep 1000 &); sleep 1000'

main() {
    mount_all
    first=$(date +%s)
    for check in \
        each_command_has_its_group \
        peak_is_that_of_the_command \
        caches_of_the_kernel_do_not_count \
        budget_holds \
        background_ends_with_its_command \
        large_background_leaves_no_group \
        background_is_gone_before_its_memory_is_given_away \
        two_interrupts_leave_nothing \
        stopped_processes_are_killed \
        termination_leaves_nothing \
        kill_9_of_the_guard_leaves_nothing \
        kill_9_of_the_engine_leaves_no_process \
        the_next_run_removes_what_was_left \
        parent_is_the_place_inside_a_group \
        limits_are_not_escaped \
        nested_run_stays_in_the_group_of_its_command \
        too_few_groups_are_no_failure \
        nobody_falls_back \
        delegated_group_is_used_by_nobody \
        half_delegated_group_falls_back \
        paused_commands_go_on
    do
        folder=/tmp/$check
        mkdir -m 777 "$folder"
        cd "$folder" || exit
        "$check"
        # One failure is not to look like many; but the next run is to find what this one leaves.
        [ "$check" = kill_9_of_the_engine_leaves_no_process ] || leftovers | xargs -r rmdir
    done
    echo "note all: $(($(date +%s) - first)) s"
    echo "end of checks"
    poweroff -f
}

mount_all() {
    export PATH=/bin NO_COLOR=1
    mount -t proc none /proc
    mount -t sysfs none /sys
    mount -t devtmpfs none /dev
    mount -t tmpfs none /tmp
    mount -t cgroup2 none "$groups"
    chmod 1777 /tmp
    echo "note kernel: $(uname -r), controllers: $(cat "$groups/cgroup.controllers")"
}

ok() {
    echo "ok $check: $*"
}

fail() {
    echo "FAIL $check: $*"
    for file in out errors list; do
        [ ! -s "$file" ] || { echo "--- $file"; cut -c -400 "$file" | tail -n 30; }
    done
    [ -z "$(leftovers)" ] || { echo "--- groups"; leftovers; }
}

# judge DETAIL CONDITION...: the condition is a command.
judge() {
    detail=$1
    shift
    if "$@"; then ok "$detail"; else fail "$detail"; fi
}

map() {
    TRIPOD_LOG=debug tripod map --progress none "$@" >out 2>errors
}

# map_in GROUP ARGUMENT...: the same by a shell that stands in that group.
map_in() {
    group=$1
    shift
    (sh -c 'echo $$ >"$1/cgroup.procs"; shift; TRIPOD_LOG=debug exec tripod map --progress none "$@"' \
        sh "$group" "$@") >out 2>errors
}

# map_as_nobody GROUP ARGUMENT...: the same as an ordinary user.
map_as_nobody() {
    group=$1
    shift
    sh -c 'echo $$ >"$1/cgroup.procs"; shift
        exec setpriv --reuid=65534 --regid=65534 --clear-groups \
            env TRIPOD_LOG=debug tripod map --progress none "$@"' sh "$group" "$@" >out 2>errors
}

uses_groups() { ! grep -q 'measuring by /proc' errors; }
falls_back() { grep -q 'measuring by /proc' errors; }
reason() { sed -n 's/.*why=//p' errors | cut -c -300; }
leftovers() { find "$groups" -depth -type d -name 'tripod-*'; }
nothing_left() { [ -z "$(leftovers)" ]; }
processes() { ps -o pid,args | grep -v grep | grep "$1"; }
no_sleeper() { ! processes 'sleep 1000' >list; }
no_hog() { ! processes 'hog 100' >list; }
number() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
within() { [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; }

# until_true SECONDS CONDITION...
until_true() {
    rounds=$(($1 * 10))
    shift
    while ! "$@"; do
        rounds=$((rounds - 1))
        [ "$rounds" -gt 0 ] || return 1
        sleep 0.1
    done
}

each_command_has_its_group() {
    map -j 2 'cat /proc/self/cgroup; find /sys/fs/cgroup -name "tripod-*" >list; : {}' ::: 1 2 3
    status=$?
    judge "status $status, $(sort out | tr '\n' ' ')" \
        test "$(grep -c '^0::/tripod-[0-9]*/[0-9]*-[123]-1$' out)" = 3
    judge "no fallback $(reason)" uses_groups
    judge "a group during the run: $(cat list)" test -s list
    judge "none after it" nothing_left
}

peak_is_that_of_the_command() {
    map --json hog ::: 60
    peak=$(head -n 1 out | number memory_peak_bytes)
    judge "60 MiB measured as $((peak / mib)) MiB" within "$peak" $((60 * mib)) $((75 * mib))
    # Three processes, one of them in a session of its own: only the group sees the sum exactly.
    map --json 'hog 40 1 & env -i setsid /bin/hog 40 1 & hog {} 1; wait' ::: 40
    peak=$(head -n 1 out | number memory_peak_bytes)
    judge "3 x 40 MiB measured as $((peak / mib)) MiB" within "$peak" $((120 * mib)) $((140 * mib))
}

caches_of_the_kernel_do_not_count() {
    map --json 'find {} >list; sleep 0.5
        grep slab_reclaimable "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.stat"' ::: /sys
    peak=$(head -n 1 out | number memory_peak_bytes)
    cached=$(head -n 1 out | sed -n 's/.*slab_reclaimable \([0-9]*\).*/\1/p')
    judge "$((cached / 1024)) KiB cached and $((peak / 1024)) KiB in all, $(wc -l <list) names" \
        within "$((peak - cached))" -$((64 * mib)) 0
    rm list
}

# The kernel's own figure for all commands and the run itself, from a group around them.
budget_holds() {
    echo +memory >"$groups/cgroup.subtree_control"
    mkdir -p "$groups/outer/shell"
    map_in "$groups/outer/shell" --json --mem 600M -j 8 'hog {} 0.2' \
        ::: 150 150 150 150 150 150 150 150 150 150 150 150
    status=$?
    whole=$(cat "$groups/outer/memory.peak")
    judge "places: $(reason)" uses_groups
    summary=$(tail -n 1 out)
    judge "status $status: $summary" test "$status$(echo "$summary" | number succeeded)" = 012
    peak=$(echo "$summary" | number memory_peak_bytes)
    judge "peak $((peak / mib)) of 600 MiB" within "$peak" $((150 * mib)) $((660 * mib))
    judge "peak by the kernel, the run itself included: $((whole / mib)) of 600 MiB" \
        within "$whole" $((150 * mib)) $((660 * mib))
    judge "no group left" nothing_left
    rmdir "$groups/outer/shell" "$groups/outer"
}

background_ends_with_its_command() {
    map -j 1 'if [ {} = 1 ]; then
            setsid sleep 1000 & (setsid sleep 1000 &); (env -i setsid sleep 1000 &); sleep 0.3
        else
            for round in 1 2 3 4 5 6 7 8 9 10; do
                ps -o args | grep "^sleep 1000" >list || exit 0
                sleep 0.1
            done
            exit 1
        fi' ::: 1 2
    status=$?
    judge "gone before the next command is done: status $status" test -z "$(cat list)"
    judge "none after the run" no_sleeper
    judge "no group left" nothing_left
}

# A killed process gives back its memory before it leaves its group, which takes a while.
large_background_leaves_no_group() {
    map -j 4 'for each in 1 2 3; do env -i setsid hog 100 1000 & done; sleep 2; : {}' ::: 1 2 3 4
    status=$?
    judge "status $status, $(grep -c 'still in use' errors) warnings" test "$(grep -c 'still in use' errors)" = 0
    judge "no process left" until_true 5 no_hog
    judge "no group left" nothing_left
}

background_is_gone_before_its_memory_is_given_away() {
    mkdir -p "$groups/outer/shell"
    map_in "$groups/outer/shell" --json --mem 400M -j 1 \
        'for each in 1 2 3; do env -i setsid hog 100 1000 & done; sleep 1; : {}' ::: 1 2 3 4
    status=$?
    whole=$(cat "$groups/outer/memory.peak")
    judge "status $status, $((whole / mib)) of 400 MiB" within "$whole" $((300 * mib)) $((360 * mib))
    slowest=$(number wall_ms <out | sed '$d' | sort -n | tail -n 1)
    judge "nobody waits for its output: $slowest ms" within "$slowest" 1000 1800
    rmdir "$groups/outer/shell" "$groups/outer"
}

# Starts two commands with a tree each, and sends SIGNAL... to WHOM, the guard or the engine. The
# run is not the one in the background: there the shell would make it ignore SIGINT.
interrupt_trees() {
    rm -f up.*
    send_when_up "$@" &
    sender=$!
    map -j 2 "touch up.{}; $tree" ::: 1 2 3 4
    status=$?
    wait "$sender"
}

send_when_up() {
    until_true 20 test -e up.1
    until_true 20 test -e up.2
    sleep 1
    guard=$(ps -o pid,args | sed -n 's/^ *\([0-9]*\) tripod map .*/\1/p' | sort -n | head -n 1)
    engine=$(cut -d' ' -f1 "/proc/$guard/task/$guard/children")
    echo "$engine" >engine
    [ "$1" = guard ] && target=$guard || target=$engine
    shift
    # Signals of a kind that are pending at once are one.
    for signal in "$@"; do kill "-$signal" "$target"; sleep 0.2; done
}

two_interrupts_leave_nothing() {
    interrupt_trees guard INT INT
    judge "status $status" test "$status" = 130
    judge "no process left" no_sleeper
    judge "no group left" nothing_left
}

stopped_processes_are_killed() {
    all=$tree
    tree='sleep 1000 & kill -STOP $! $$'
    interrupt_trees guard INT INT
    tree=$all
    judge "status $status" test "$status" = 130
    judge "no process left" no_sleeper
    judge "no group left" nothing_left
}

termination_leaves_nothing() {
    interrupt_trees guard TERM
    judge "status $status" test "$status" = 143
    judge "no process left" no_sleeper
    judge "no group left" nothing_left
}

kill_9_of_the_guard_leaves_nothing() {
    interrupt_trees guard KILL
    judge "the engine ends, status $status" until_true 10 test ! -e "/proc/$(cat engine)/exe"
    judge "no process left" until_true 10 no_sleeper
    judge "no group left" until_true 5 nothing_left
}

kill_9_of_the_engine_leaves_no_process() {
    interrupt_trees engine KILL
    judge "status $status" test "$status" = 137
    judge "no process left" no_sleeper
    echo "note $check: groups left: $(leftovers | wc -l)"
}

the_next_run_removes_what_was_left() {
    map -j 2 'sleep 0.1; : {}' ::: 1 2
    status=$?
    judge "status $status" test $status = 0
    judge "no group left" nothing_left
}

parent_is_the_place_inside_a_group() {
    mkdir -p "$groups/a/b"
    echo +memory >"$groups/cgroup.subtree_control"
    echo +memory >"$groups/a/cgroup.subtree_control"
    map_in "$groups/a/b" 'cat /proc/self/cgroup; : {}' ::: 1
    status=$?
    judge "status $status, place $(cat out)" grep -q '^0::/a/tripod-[0-9]*/[0-9]*-1-1$' out
    judge "no group left" nothing_left
    rmdir "$groups/a/b"
    # The parent does not have the controller and cannot pass it on: it holds processes itself.
    echo -memory >"$groups/a/cgroup.subtree_control"
    echo -memory >"$groups/cgroup.subtree_control"
    sleep 20 & echo $! >"$groups/a/cgroup.procs"
    mkdir "$groups/a/b"
    map_in "$groups/a/b" 'cat /proc/self/cgroup; : {}' ::: 1
    status=$?
    judge "status $status, place $(cat out), $(reason)" falls_back
    judge "no group left" nothing_left
    kill $!; wait $!
    rmdir "$groups/a/b" "$groups/a"
}

limits_are_not_escaped() {
    mkdir -p "$groups/a/b"
    echo +memory >"$groups/cgroup.subtree_control"
    echo +memory >"$groups/a/cgroup.subtree_control"
    echo 500M >"$groups/a/b/memory.max"
    map_in "$groups/a/b" 'cat /proc/self/cgroup; : {}' ::: 1
    status=$?
    judge "status $status, place $(cat out), $(reason)" grep -q '^0::/a/b' out
    judge "no group left" nothing_left
    rmdir "$groups/a/b" "$groups/a"
}

nested_run_stays_in_the_group_of_its_command() {
    map --json 'tripod map -j 2 "hog 50 1; :" ::: 1 2; sleep 0.{}' ::: 2
    status=$?
    peak=$(head -n 1 out | number memory_peak_bytes)
    judge "status $status, 2 x 50 MiB measured as $((peak / mib)) MiB" \
        within "$peak" $((90 * mib)) $((140 * mib))
    judge "no group left" nothing_left
}

too_few_groups_are_no_failure() {
    mkdir -p "$groups/a/b"
    echo +memory >"$groups/a/cgroup.subtree_control"
    for descendants_max in 1 2 3; do
        echo "$descendants_max" >"$groups/a/cgroup.max.descendants"
        map_in "$groups/a/b" -j 2 'sleep 0.2; : {}' ::: 1 2 3
        status=$?
        judge "status $status with $descendants_max groups, $(reason)" test $status = 0
    done
    judge "no group left" nothing_left
    rmdir "$groups/a/b" "$groups/a"
}

nobody_falls_back() {
    map_as_nobody "$groups" 'id -un; : {}' ::: 1
    status=$?
    judge "status $status, $(cat out), $(reason)" falls_back
    judge "the command ran" grep -qx nobody out
}

delegated_group_is_used_by_nobody() {
    mkdir -p "$groups/a/b"
    echo +memory >"$groups/a/cgroup.subtree_control"
    chown nobody "$groups/a" "$groups/a/cgroup.procs" "$groups/a/cgroup.subtree_control"
    map_as_nobody "$groups/a/b" 'id -un; cat /proc/self/cgroup; : {}' ::: 1
    status=$?
    judge "status $status, $(tr '\n' ' ' <out)" grep -q '^0::/a/tripod-[0-9]*/[0-9]*-1-1$' out
    judge "no group left" nothing_left
    rmdir "$groups/a/b" "$groups/a"
}

# Groups can be made in it, but no process may be moved.
half_delegated_group_falls_back() {
    mkdir -p "$groups/a/b"
    echo +memory >"$groups/a/cgroup.subtree_control"
    chown nobody "$groups/a"
    map_as_nobody "$groups/a/b" 'id -un; : {}' ::: 1
    status=$?
    judge "status $status, $(reason)" falls_back
    judge "the command ran" grep -qx nobody out
    judge "no group left" nothing_left
    rmdir "$groups/a/b" "$groups/a"
}

# Twelve commands want three times what there is: those that get no more are paused for a while.
paused_commands_go_on() {
    map --json --mem 400M -j 6 'hog {} 0.2' ::: 100 100 100 100 100 100 100 100 100 100 100 100 &
    job=$!
    paused=0
    while kill -0 "$job" 2>/dev/null; do
        for stat in /proc/[1-9][0-9][0-9]*/stat; do
            read -r line <"$stat"
            case $line in *') T '*) paused=$((paused + 1)) ;; esac
        done 2>/dev/null
    done
    wait "$job"
    status=$?
    judge "status $status: $(tail -n 1 out)" test "$status" = 0
    judge "seen paused $paused times" test "$paused" -gt 0
    judge "no group left" nothing_left
}

main
