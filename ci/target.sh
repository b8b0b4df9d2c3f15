# Starts, kills and stops the iSCSI target under test, whichever it is. Sourced by the scripts in ci/, never run.
# shellcheck shell=bash
#
# TARGET=kagamid (default) is ours; TARGET=tgt is Debian's tgtd, which tells a fault of a script from one of ours.
#
#   target_init DIR                      choose a port, forget everything declared before
#   target_lun LUN BLOCK_SIZE SIZE_MIB [PATH [KEY=VALUE...]]
#                                        declare a volume, a sparse file in DIR unless PATH is given (- is none, ram is memory);
#                                        further keys of [[volume]] are for kagamid only
#   target_host ROLE IQN [USER SECRET [MUTUAL_USER MUTUAL_SECRET]]
#                                        declare an initiator and how it must prove itself
#   target_start                         start it, return when the portal listens; again after a kill: same volumes
#   target_kill                          SIGKILL
#   target_stop                          SIGTERM; false unless it ends by itself with exit code 0 (tgtd: SIGKILL)
#   target_iqn ROLE                      the target name that this initiator logs in to
#   TARGET_PID, TARGET_LOG, TARGET_PORT and TARGET_PORT_2 (two portals of the one target)
#
# tgtd keeps CHAP accounts per target, so there each role gets a target of its own over the same files.

TARGET=${TARGET:-kagamid}

target_init() {
    TARGET_DIR=$1
    TARGET_PORT=$(free_port)
    TARGET_PORT_2=$(free_port)
    TARGET_LOG=$TARGET_DIR/target.log
    TARGET_PID=
    TARGET_LUNS=()
    TARGET_HOSTS=()
    # kagamid: more lines for [array], and whole tables for the end of the file.
    TARGET_ARRAY_KEYS=()
    TARGET_TABLES=()
    mkdir -p "$TARGET_DIR"
}

target_lun() {
    local lun=$1 block=$2 mib=$3 path=${4:--}
    [[ $path != - ]] || path=$TARGET_DIR/lun$lun.img
    shift $(($# < 4 ? $# : 4))
    TARGET_LUNS+=("$lun $block $mib $path $*")
}

target_host() {
    local role=$1 iqn=$2
    shift 2
    TARGET_HOSTS+=("$role $iqn $*")
    local i=0 secret
    for secret in "${2:-}" "${4:-}"; do
        i=$((i + 1))
        [[ -n $secret ]] || continue
        (umask 077 && printf '%s' "$secret" >"$TARGET_DIR/secret-$role-$i")
    done
}

target_iqn() {
    case $TARGET in
        tgt) echo "iqn.2026-11.io.kagami:ci-$1" ;;
        *) echo "iqn.2026-11.io.kagami:ci" ;;
    esac
}

target_start() {
    case $TARGET in
        tgt) target_start_tgt ;;
        kagamid) target_start_kagamid ;;
        *) die "TARGET is $TARGET; it must be kagamid or tgt" ;;
    esac
    wait_until 30 target_listens || {
        tail -n 20 "$TARGET_LOG" >&2
        die "$TARGET did not open port $TARGET_PORT"
    }
}

target_listens() {
    # A target that ended early is told at once, not after the whole wait.
    alive "$TARGET_PID" || {
        tail -n 20 "$TARGET_LOG" >&2
        die "$TARGET ended while starting"
    }
    port_open "$TARGET_PORT"
}

target_kill() {
    kill -KILL "$TARGET_PID" 2>/dev/null || true
    wait "$TARGET_PID" 2>/dev/null || true
}

target_stop() {
    [[ -n ${TARGET_PID:-} ]] || return 0
    # tgtd ignores SIGTERM while it has sessions.
    [[ $TARGET != tgt ]] || { target_kill && TARGET_PID= && return 0; }
    local code=0
    kill -TERM "$TARGET_PID" 2>/dev/null || code=1
    if ! wait_until 30 target_gone; then
        say "$TARGET still runs 30 s after SIGTERM"
        target_kill
        return 1
    fi
    wait "$TARGET_PID" || code=$?
    TARGET_PID=
    return "$code"
}

target_gone() {
    # A child that ended but was not waited for is a zombie and still answers kill -0.
    ! alive "$TARGET_PID" || grep -q '^State:[[:space:]]*Z' "/proc/$TARGET_PID/status"
}

target_start_kagamid() {
    [[ -x $KAGAMID ]] || die "$KAGAMID is not there: cargo build --profile ci"
    local file=$TARGET_DIR/kagamid.toml entry key keys lun block mib path role iqn user secret muser msecret
    {
        echo '[array]'
        echo 'name = "ci"'
        echo "iqn = \"$(target_iqn any)\""
        echo "data = \"$TARGET_DIR/data\""
        echo "listen = [\"127.0.0.1:$TARGET_PORT\", \"127.0.0.1:$TARGET_PORT_2\"]"
        echo "admin = \"$TARGET_DIR/admin.sock\""
        for entry in "${TARGET_ARRAY_KEYS[@]}"; do echo "$entry"; done
        for entry in "${TARGET_LUNS[@]}"; do
            read -r lun block mib path keys <<<"$entry"
            printf '\n[[volume]]\nlun = %s\nname = "v%s"\n' "$lun" "$lun"
            if [[ $path == ram ]]; then printf 'backend = "ram"\n'; else printf 'path = "%s"\n' "$path"; fi
            [[ -b $path ]] || printf 'size = "%sMiB"\n' "$mib"
            printf 'block_size = %s\n' "$block"
            for key in $keys; do printf '%s = %s\n' "${key%%=*}" "${key#*=}"; done
        done
        for entry in "${TARGET_HOSTS[@]}"; do
            read -r role iqn user secret muser msecret <<<"$entry"
            printf '\n[[initiator]]\niqn = "%s"\nluns = [%s]\n' "$iqn" "$(target_lun_list)"
            if [[ -n $muser ]]; then
                printf 'chap = { user = "%s", secret_file = "%s", mutual = { user = "%s", secret_file = "%s" } }\n' \
                    "$user" "$TARGET_DIR/secret-$role-1" "$muser" "$TARGET_DIR/secret-$role-2"
            elif [[ -n $user ]]; then
                printf 'chap = { user = "%s", secret_file = "%s" }\n' "$user" "$TARGET_DIR/secret-$role-1"
            fi
        done
        for entry in "${TARGET_TABLES[@]}"; do printf '\n%s\n' "$entry"; done
    } >"$file"
    mkdir -p "$TARGET_DIR/data"
    "$KAGAMID" --config "$file" >>"$TARGET_LOG" 2>&1 &
    TARGET_PID=$!
}

target_lun_list() {
    local entry list=
    for entry in "${TARGET_LUNS[@]}"; do list+="${list:+, }${entry%% *}"; done
    echo "$list"
}

target_start_tgt() {
    local entry lun block mib path keys role iqn user secret muser msecret tid=0 control=$((TARGET_PORT % 30000))
    # tgtd leaves its control socket behind when killed.
    rm -f "/var/run/tgtd/socket.$control" "/var/run/tgtd/socket.$control.lock"
    mkdir -p /var/run/tgtd
    tgtd -f -C "$control" --iscsi "portal=127.0.0.1:$TARGET_PORT,portal=127.0.0.1:$TARGET_PORT_2" >>"$TARGET_LOG" 2>&1 &
    TARGET_PID=$!
    wait_until 10 tgtadm -C "$control" --lld iscsi --mode sys --op show || die "tgtd does not answer"
    ((${#TARGET_HOSTS[@]})) || target_host any ALL
    for entry in "${TARGET_HOSTS[@]}"; do
        read -r role iqn user secret muser msecret <<<"$entry"
        tid=$((tid + 1))
        tgt_do "$control" target new --tid "$tid" --targetname "$(target_iqn "$role")"
        tgt_do "$control" target update --tid "$tid" --name HeaderDigest --value CRC32C,None
        tgt_do "$control" target update --tid "$tid" --name DataDigest --value CRC32C,None
        for lun in "${TARGET_LUNS[@]}"; do
            # shellcheck disable=SC2034  # keys are kagamid's
            read -r lun block mib path keys <<<"$lun"
            [[ -e $path ]] || truncate -s "${mib}M" "$path"
            # tgtd's LUN 0 is its controller; ours move up by one.
            tgt_do "$control" logicalunit new --tid "$tid" --lun $((lun + 1)) \
                --backing-store "$path" --blocksize "$block"
            tgt_do "$control" logicalunit update --tid "$tid" --lun $((lun + 1)) \
                --params thin_provisioning=1,vendor_id=KAGAMI,product_id=CI-LUN
        done
        if [[ -n $user ]]; then
            tgt_do "$control" account new --user "$user" --password "$secret" || true
            tgt_do "$control" account bind --tid "$tid" --user "$user"
        fi
        if [[ -n $muser ]]; then
            tgt_do "$control" account new --user "$muser" --password "$msecret" || true
            tgt_do "$control" account bind --tid "$tid" --user "$muser" --outgoing
        fi
        tgt_do "$control" target bind --tid "$tid" --initiator-address ALL
    done
}

tgt_do() {
    local control=$1 mode=$2 op=$3
    shift 3
    tgtadm -C "$control" --lld iscsi --mode "$mode" --op "$op" "$@"
}

# What a script's LUN is called on the wire.
target_wire_lun() {
    if [[ $TARGET == tgt ]]; then echo $(($1 + 1)); else echo "$1"; fi
}
