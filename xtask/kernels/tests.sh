# What is tried on a kernel: with user namespaces and without, as root and as an ordinary user. The report goes to standard
# output. A line `@@ WORD …` begins a section, and the lines up to the next one belong to it.

# Runs a command as a user.
as() {
    user=$1
    shift
    if [ "$user" = 0 ]; then
        timeout 120 "$@"
    else
        timeout 120 /tools/loader --library-path /tools /tools/setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
    fi
}

# Everything that one user tries.
part() {
    user=$1
    namespaces=$2
    folder=/tmp/$namespaces-$user
    mkdir -p "$folder/scenes"
    cp -r /trial/cache "$folder/cache"
    chown -R "$user:$user" "$folder"
    export HOME="$folder" ROLLCAGE_CACHE="$folder/cache"
    echo "@@ part $user $namespaces"
    echo "@@ doctor"
    as "$user" rollcage doctor </dev/null 2>&1
    while read -r name arguments; do
        echo "@@ run $name"
        # Unquoted: the words of the line are the arguments.
        as "$user" rollcage $arguments </dev/null 2>&1
    done </trial/runs.txt
    echo "@@ granted"
    as "$user" granted /bin/rollcage /trial/guests "$folder/granted" </dev/null 2>&1
    while read -r name; do
        echo "@@ attempt $name"
        as "$user" intruder host all pure - "$name" "$folder/scenes/$name" </dev/null 2>&1
        # The same without the sandbox: whether the attempt can succeed at all here.
        echo "@@ outside $name"
        as "$user" intruder host outside pure - "$name" "$folder/scenes/outside-$name" </dev/null 2>&1
    done </trial/attempts.txt
    # The same for a worker that may read a directory, or write it.
    while read -r entry name; do
        echo "@@ directory-attempt $entry $name"
        as "$user" intruder host all "$entry" - "$name" "$folder/scenes/$entry-$name" </dev/null 2>&1
    done </trial/directory-attempts.txt
}

echo "@@ kernel $(uname -v | sed 's/.*Debian \([^ -]*\).*/\1/')"
echo "@@ modules $(cat /sys/kernel/security/lsm)"
for namespaces in on off; do
    [ $namespaces = off ] && echo 0 >/proc/sys/user/max_user_namespaces
    # Both users at once, since the machine has two processors.
    part 0 $namespaces >/tmp/report-0 &
    part 65534 $namespaces >/tmp/report-65534 &
    wait
    cat /tmp/report-0 /tmp/report-65534
    echo "$namespaces: $(cut -d' ' -f1 /proc/uptime) s after the start" >/dev/console
done
echo "@@ done"
