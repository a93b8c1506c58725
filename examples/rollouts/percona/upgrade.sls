# Upgrade a Percona cluster of three, one node at a time: salt 'db*' state.apply upgrade
#
# A node that finds no upgrade takes no lock. An upgrade begins only when all three nodes are in the cluster and synced.
# If it fails, or the cluster is not healthy within half an hour after it, the lock stays: no other node is upgraded.
one node at a time:
  distlock.locked:
    - name: percona_prod
    - reason: Upgrade of Percona Server
    - timeout: -1
    - gate: /usr/local/bin/all-nodes-synced
    - prereq:
      - pkg: percona-server-server

percona-server-server:
  pkg.latest: []

next one, please:
  distlock.unlocked:
    - name: percona_prod
    - gate: /usr/local/bin/all-nodes-synced
    - gate_timeout: 1800
    - gate_for: 10
    - require:
      - pkg: percona-server-server
    - onchanges:
      - distlock: one node at a time
