# Persistent reservations between two initiators of this one machine.

check "record for the second initiator" host second "$iqn_second" "$target_plain"
check "second login" login second "$target_plain"
check "its disk" wait_for 20 disk_there second "$lun512"
mine=/dev/$(disk plain "$lun512")
other=/dev/$(disk second "$lun512")

pr_out() {
    device=$1
    shift
    sg_persist --no-inquiry --out "$@" "$device"
}
pr_keys() { sg_persist --no-inquiry --in --read-keys "$1"; }
pr_holder() { sg_persist --no-inquiry --in --read-reservation "$1"; }
pr_key_there() { pr_keys "$1" | grep -qi "$2"; }
pr_held_by() { pr_holder "$1" | grep -qi "$2"; }
write_block() { dd if=/dev/zero of="$1" bs=4096 count=1 seek=7 oflag=direct; }
read_block() { dd if="$1" of=/dev/null bs=4096 count=1 skip=7 iflag=direct; }

check "register" pr_out "$mine" --register --param-sark=0xa1a1
check "the key is listed to the other host" pr_key_there "$other" 0xa1a1
check "reserve, write exclusive" pr_out "$mine" --reserve --param-rk=0xa1a1 --prout-type=1
check "the reservation is seen by the other host" pr_held_by "$other" 0xa1a1
check "the holder writes" write_block "$mine"
refuse "the other host may not write" write_block "$other"
check "the other host may read" read_block "$other"
refuse "the other host may not release" pr_out "$other" --release --param-rk=0xb2b2 --prout-type=1
check "the other host registers" pr_out "$other" --register --param-sark=0xb2b2
refuse "registered, it still may not write" write_block "$other"
check "it preempts" pr_out "$other" --preempt --param-rk=0xb2b2 --param-sark=0xa1a1 --prout-type=1
check "the reservation is now its own" pr_held_by "$other" 0xb2b2
refuse "the key that was preempted is gone" pr_key_there "$other" 0xa1a1
check "it writes" write_block "$other"
refuse "the first host may not write any more" write_block "$mine"
check "it releases" pr_out "$other" --release --param-rk=0xb2b2 --prout-type=1
check "the first host writes again" write_block "$mine"
check "the other host clears" pr_out "$other" --clear --param-rk=0xb2b2
refuse "no key is left" pr_key_there "$mine" 0xb2b2
check "second logout" logout second "$target_plain"
