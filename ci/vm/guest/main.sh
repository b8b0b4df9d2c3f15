# The tests inside the virtual machine: a real Linux initiator against the target on the host.
# Parameters come as environment from the kernel's command line (ci/vm/run.sh). POSIX sh.
cd /tests || exit 1
. ./lib.sh

mkdir -p /etc/iscsi /var/lib/iscsi
echo "InitiatorName=$iqn_plain" >/etc/iscsi/initiatorname.iscsi
# Long enough for a restart of the target under I/O: commands wait instead of failing.
cat >/etc/iscsi/iscsid.conf <<CONF
node.startup = manual
node.session.timeo.replacement_timeout = 120
node.conn[0].timeo.login_timeout = 10
node.conn[0].timeo.logout_timeout = 10
node.conn[0].timeo.noop_out_interval = 5
node.conn[0].timeo.noop_out_timeout = 10
node.session.initial_login_retry_max = 4
node.session.cmds_max = 128
node.session.queue_depth = 32
node.session.scan = auto
CONF
iscsid -f >/tmp/iscsid.log 2>&1 &

begin "the start"
watch &
watcher=$!
for part in $(echo "$parts" | tr , " "); do
    start=$(uptime_s)
    # shellcheck disable=SC1090
    . "./$part.sh"
    echo "VM: part $part took $(awk "BEGIN { print $(uptime_s) - $start }") s"
done
kill $watcher

# Devices that did not answer the kernel in time: not wrong, but then nothing here took as long as it takes.
dmesg | grep -E '\] (nvme .*(timeout|reset|down)|I/O error)' | tail -n 12 | sed 's/^/VM: kernel: /'
if dmesg | grep -qE 'BUG:|Oops|hung_task|blocked for more than|Call Trace'; then
    fail "the kernel complained"
    dmesg | grep -E -A 12 'BUG:|Oops|blocked for more than|Call Trace' | head -n 40 | sed 's/^/VM:   /'
fi
echo "VM: $passed passed, $failed failed"
if [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]; then
    echo "VM-RESULT: PASS"
else
    tail -n 20 /tmp/iscsid.log | sed 's/^/VM:   iscsid: /'
    echo "VM-RESULT: FAIL"
fi
