# Upgrade an Elasticsearch of 200 in racks: salt 'es*' state.apply upgrade
#
# A minion without an upgrade takes no lock. Never two nodes of one rack at once, and in the whole cluster no more than the
# policy says: a minion takes the lock of its rack and a slot of the cluster, both or none. Nobody begins unless the cluster
# is green and moves no shards. If the upgrade fails, or the cluster is not green within an hour after it, both locks stay:
# no other node of the rack follows, and the cluster has a slot less until a person has looked.
{% set locks = ['elastic_' ~ grains['rack'], 'elastic_prod'] %}

elastic_prod:
  distlock.policy:
    - slots: 2  # no more than each index has replicas
    - expect: 15m

alone in its rack:
  distlock.locked:
    - lock_names: {{ locks }}
    - reason: Upgrade of Elasticsearch
    - timeout: -1
    - gate: /usr/local/bin/cluster-is-green
    - prereq:
      - pkg: elasticsearch

elasticsearch:
  pkg.latest: []
  service.running:
    - watch:
      - pkg: elasticsearch

next one, please:
  distlock.unlocked:
    - lock_names: {{ locks }}
    - gate: /usr/local/bin/cluster-is-green
    - gate_timeout: 3600
    - gate_for: 10
    - require:
      - service: elasticsearch
    - onchanges:
      - distlock: alone in its rack
