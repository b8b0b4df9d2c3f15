# Answers one question from outside the machine (part `blackout`): its first line says which; what belongs to it follows.
read -r what first rest
case $what in
    devices) # the arrays' devices, a name and a path each
        for folder in /sys/block/dm-*; do echo "$(cat "$folder/dm/name") /dev/$(basename "$folder")"; done
        ;;
    config) cat >"/tmp/blackout/$first" && echo "done" ;;
    up) [ -e /tmp/blackout/up ] && echo "done" ;;
    tables) tar -C /tmp/blackout -cf - tokyo osaka ;;
    mark) # in all logs, while all devices stand still and nothing is under way
        all="tokyo-jnl tokyo-db tokyo-log osaka-jnl osaka-db osaka-log"
        # shellcheck disable=SC2086
        dmsetup suspend --nolockfs --noudevsync $all || exit 1
        for device in $all tokyo-all osaka-all; do dmsetup message "$device" 0 mark "$first" || exit 1; done
        # shellcheck disable=SC2086
        dmsetup resume --noudevsync $all && echo "done"
        ;;
    kagami) # ARRAY WORDS: the answer, then its exit code
        # shellcheck disable=SC2086
        kagami --via "unix:/tmp/blackout/$first.sock" $rest 2>&1
        echo "exit $?"
        ;;
    end) touch /tmp/blackout/end && echo "done" ;;
esac
