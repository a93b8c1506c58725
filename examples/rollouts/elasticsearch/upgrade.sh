#!/bin/sh
# Upgrade this node of an Elasticsearch of 200 in racks, from cron on every node at the same time. /etc/rack names its rack.
#
# - A node without an upgrade takes no lock.
# - Never two nodes of one rack at once, and in the whole cluster no more than the policy of elastic_prod allows
#   (policy.sh): a node takes the lock of its rack and a slot of the cluster, both or none.
# - Nobody begins unless the cluster is green and moves no shards. Nodes that begin in the same green moment work side by
#   side; each of them keeps its locks until the cluster is green again.
# - A failed upgrade freezes both locks: nobody in the cluster follows before a person has looked and thawed them with
#   distlock --thaw --lock-name=elastic_prod, and the same for the rack
exec distlock \
    --lock-name="elastic_$(cat /etc/rack)" \
    --lock-name=elastic_prod \
    --reason="Upgrade of Elasticsearch" \
    --unless="yum --quiet check-update elasticsearch" \
    --gate=/usr/local/bin/cluster-is-green \
    --gate-timeout=1h \
    --gate-for=10 \
    --on-failure=freeze \
    -- sh -ec "yum --assumeyes update elasticsearch; systemctl restart elasticsearch"
