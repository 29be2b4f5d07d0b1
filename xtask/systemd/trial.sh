# Starts the units of `/trial/units.txt` one after the other, and tells of each how it ended, what it said, and which
# limits its own control group had. The report goes to standard output.
mount -t tmpfs tmpfs /tmp
mkdir -p /run/trial
echo "@@ version $(systemctl --version | head -n 1)"
while read -r kind name; do
    echo "$name" >/dev/console
    if [ "$kind" = scope ]; then
        /bin/bash "/trial/$name.sh" >"/run/trial/$name.out" 2>"/run/trial/$name.err" </dev/null &
        group=/sys/fs/cgroup/system.slice/$name.scope
    else
        systemctl start "$name.service" 2>/dev/null &
        group=/sys/fs/cgroup/system.slice/$name.service
    fi
    limits=
    while kill -0 $! 2>/dev/null; do
        for own in "$group"/rollcage-*; do
            if read -r memory <"$own/memory.max" && read -r processor <"$own/cpu.max"; then
                limits="$memory $processor"
            fi 2>/dev/null
        done
        sleep 0.2
    done
    wait $!
    status=$?
    [ "$kind" = scope ] || status=$(systemctl show --value --property ExecMainStatus "$name.service")
    echo "@@ $name $status"
    cat "/run/trial/$name.out"
    echo "@@ limits $limits"
    echo "@@ said"
    cat "/run/trial/$name.err"
done </trial/units.txt
echo "@@ done"
