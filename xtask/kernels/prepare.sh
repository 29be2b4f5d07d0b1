# Compiles every plugin once, and sends the code cache over the second port.
export HOME=/root ROLLCAGE_CACHE=/tmp/cache
mkdir -p /tmp/cache
while read -r name arguments; do
    echo "compiling for $name, $(cut -d' ' -f1 /proc/uptime) s after the start" >/dev/console
    # Unquoted: the words of the line are the arguments.
    timeout 300 rollcage $arguments </dev/null >/tmp/said 2>&1 || tail -n 3 /tmp/said >/dev/console
done </trial/runs.txt
timeout 600 granted /bin/rollcage /trial/guests /tmp/granted </dev/null >/dev/console 2>&1
tar c -C /tmp cache | gzip -1
