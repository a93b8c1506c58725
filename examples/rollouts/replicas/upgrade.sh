#!/bin/sh
# Upgrade this node of a MySQL primary with replicas. cron starts it on every node at the same time.
#
# - Replicas are served before the primary, whichever asks first: lower ranks overtake a waiter with a higher one.
# - The primary also waits until all replicas have the upgrade, those that come late too.
# - /usr/local/bin/is-primary exits with 0 on the primary, with 1 on a replica.
# - /usr/local/bin/replicas-upgraded exits with 0 once all replicas have the upgrade.
# - A failed upgrade freezes the lock, and no other node is upgraded.
/usr/local/bin/is-primary
case $? in
0) set -- --rank=90 --gate=/usr/local/bin/replicas-upgraded --gate-at=before ;;
1) set -- --rank=10 ;;
*)
    echo "the role of this node is unknown" >&2
    exit 1
    ;;
esac
exec distlock \
    --lock-name=mysql_prod \
    --reason="Upgrade of MySQL" \
    --unless="yum --quiet check-update mysql-community-server" \
    --on-failure=freeze \
    "$@" \
    -- yum --assumeyes update mysql-community-server
