# CHAP one way and both ways; a wrong secret on either side ends the login.

auth='node.session.auth'
check "record with CHAP" host chap "$iqn_chap" "$target_chap" \
    $auth.authmethod CHAP $auth.username "$chap_user" $auth.password "$chap_secret"
check "login by CHAP" login chap "$target_chap"
check "its disk can be read" wait_for 20 disk_there chap "$lun512"
check "logout by CHAP" logout chap "$target_chap"
setting chap "$target_chap" $auth.password "not-the-secret" >/dev/null
refuse "CHAP with a wrong secret is refused" login chap "$target_chap"
setting chap "$target_chap" $auth.authmethod None >/dev/null
refuse "no CHAP where it is asked for is refused" login chap "$target_chap"

check "record with mutual CHAP" host mutual "$iqn_mutual" "$target_mutual" \
    $auth.authmethod CHAP $auth.username "$mutual_user" $auth.password "$mutual_secret" \
    $auth.username_in "$mutual_target_user" $auth.password_in "$mutual_target_secret"
check "login by mutual CHAP" login mutual "$target_mutual"
check "the disk is there" wait_for 20 disk_there mutual "$lun512"
check "logout by mutual CHAP" logout mutual "$target_mutual"
setting mutual "$target_mutual" $auth.password_in "not-the-secret" >/dev/null
refuse "a target that cannot prove itself is refused" login mutual "$target_mutual"
