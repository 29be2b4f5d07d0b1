# Starts the units of `/trial/units.txt` one after the other, and tells of each how it ended, what it said, and which
# limits its own control group had. The report goes to standard output.
mount -t tmpfs tmpfs /tmp
mkdir -p /run/trial
echo "@@ version $(systemctl --version | head -n 1)"

as_user() { XDG_RUNTIME_DIR=/run/user/1000 setpriv --reuid=1000 --regid=1000 --clear-groups "$@"; }

# What a login would do: a manager of the user's own.
begin_user_manager() {
    mkdir -p /run/user/1000
    chown 1000:1000 /run/user/1000
    systemd-run -q --unit user-manager --uid 1000 --gid 1000 --property Type=notify --property Delegate=yes \
        --setenv XDG_RUNTIME_DIR=/run/user/1000 /usr/lib/systemd/systemd --user
    until as_user systemctl --user show >/dev/null 2>&1; do sleep 0.5; done
}

while read -r kind name; do
    echo "$name" >/dev/console
    case $kind in
    scope)
        /bin/bash "/trial/$name.sh" >"/run/trial/$name.out" 2>"/run/trial/$name.err" </dev/null &
        group=/sys/fs/cgroup/system.slice/$name.scope
        ;;
    user-scope)
        begin_user_manager
        for part in out err; do
            touch "/run/trial/$name.$part"
            chown 1000 "/run/trial/$name.$part"
        done
        as_user systemctl --user start "$name.service" 2>/dev/null &
        group=/sys/fs/cgroup/system.slice/user-manager.service/app.slice/$name.scope
        ;;
    unit)
        systemctl start "$name.service" 2>/dev/null &
        group=/sys/fs/cgroup/system.slice/$name.service
        ;;
    esac
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
    case $kind in
    unit) status=$(systemctl show --value --property ExecMainStatus "$name.service") ;;
    user-scope) status=$(as_user systemctl --user show --value --property ExecMainStatus "$name.service") ;;
    esac
    echo "@@ $name $status"
    cat "/run/trial/$name.out"
    echo "@@ limits $limits"
    echo "@@ said"
    cat "/run/trial/$name.err"
done </trial/units.txt
echo "@@ done"
