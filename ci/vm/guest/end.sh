# Logout: the disks go, no session stays.

check "logout" logout plain "$target_plain"
no_sessions() { ! ls /sys/class/iscsi_session/session* >/dev/null 2>&1; }
check "no session is left" wait_for 10 no_sessions
check "no disk is left" sh -c "! ls $small $large 2>/dev/null"
