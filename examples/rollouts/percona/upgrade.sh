#!/bin/sh
# Upgrade this node of a Percona cluster of three. cron starts it on every node at the same time.
#
# - A node that finds no upgrade takes no lock.
# - One node is upgraded at a time, and only when all three nodes are in the cluster and synced.
# - A failed upgrade freezes the lock: no other node is upgraded until an operator has thawed it with
#   distlock --thaw --lock-name=percona_prod
exec distlock \
    --lock-name=percona_prod \
    --reason="Upgrade of Percona Server" \
    --unless="yum --quiet check-update percona-server-server" \
    --gate=/usr/local/bin/all-nodes-synced \
    --gate-timeout=30m \
    --gate-for=10 \
    --on-failure=freeze \
    -- yum --assumeyes update percona-server-server
