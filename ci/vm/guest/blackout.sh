# A pair of two kagamid, each on devices that log every write as it becomes stable (dm-log-writes): one log for each device, and
# one for all devices of an array below. Hosts outside write to them, and order splits, resyncs and swaps; now and then all
# devices stand still for a moment, and it is marked in all logs (answer.sh). These are replayed outside afterwards, as if
# both arrays, or one, had lost power there (ci/vm/blackout).

modprobe virtio_blk
modprobe dm-log-writes
mkdir -p /tmp/blackout
plain() { dmsetup "$@" --noudevrules --noudevsync; }
# The kernel's own name of a device of device-mapper.
mapped() { for folder in /sys/block/dm-*; do [ "$(cat "$folder/dm/name")" != "$1" ] || echo "/dev/$(basename "$folder")"; done; }
# part NAME DEVICE FIRST-MIB MIB: a part of a device
part() { plain create "$1" -u "KAGAMI-$1" --table "0 $(($4 * 2048)) linear $2 $(($3 * 2048))"; }
# logged NAME DEVICE LOG MIB
logged() { plain create "$1" -u "KAGAMI-$1" --table "0 $(($4 * 2048)) log-writes $2 $3"; }
# The sizes and their order are those of ci/vm/blackout/logs.py.
array_disks() { # array_disks ARRAY
    logs=$(virtual "$1-logs") && part "$1-log-all" "$logs" 0 768 || return 1
    logged "$1-all" "$(virtual "$1")" "$(mapped "$1-log-all")" 24 || return 1
    first=0 number=1
    for device in jnl:16 db:4 log:4; do
        size=${device#*:} device=$1-${device%:*}
        part "$device-part" "$(mapped "$1-all")" $first "$size" || return 1
        part "$device-log" "$logs" $((number * 768)) 768 || return 1
        logged "$device" "$(mapped "$device-part")" "$(mapped "$device-log")" "$size" || return 1
        first=$((first + size)) number=$((number + 1))
    done
}
for array in tokyo osaka; do check "logged devices for array $array" array_disks $array; done
nc -ll -p 3270 -e sh /tests/answer.sh &
answering=$!
echo "VM-DO: blackout"
check "the arrays' configurations" wait_for 60 test -e /tmp/blackout/ready
both() { # both: each is started, and serves
    for array in tokyo osaka; do
        kagamid --config /tmp/blackout/$array.toml >/tmp/blackout/$array.log 2>&1 &
        echo $! >/tmp/blackout/$array.pid
    done
    for array in tokyo osaka; do
        wait_for 60 grep -q '^ready$' /tmp/blackout/$array.log || { tail -n 5 /tmp/blackout/$array.log; return 1; }
    done
    touch /tmp/blackout/up
}
check "two arrays on them" both
check "load from outside" wait_for $((blackout_seconds * 4 + 120)) test -e /tmp/blackout/end
for array in tokyo osaka; do
    tail -n 3 /tmp/blackout/$array.log | sed "s/^/VM:   $array: /"
    kill -KILL "$(cat /tmp/blackout/$array.pid)"
done
kill $answering
end_logs() {
    for array in tokyo osaka; do
        for device in db log jnl all; do
            plain remove --retry $array-$device || return 1
            [ $device = all ] || plain remove --retry $array-$device-part || return 1
        done
    done
}
check "the logs end" wait_for 20 end_logs
rm -rf /tmp/blackout
