# Upgrade one node of a cluster, one node at a time: lock, package, service, health check, unlock.
#
#   salt 'db*' state.apply upgrade                                    one upgrades, the others fail and say who does
#   salt 'db*' state.apply upgrade pillar='{"upgrade": {"timeout": -1}}'   each waits for its turn
#
# If any step fails, the lock stays with this node, and no other node runs into the same problem. Repair the node, and
# apply the state again: it continues under its own lock.
{% set upgrade = pillar.get('upgrade', {}) %}

one node at a time:
  distlock.locked:
    - name: {{ upgrade.get('lock', 'percona_prod') }}
    - reason: Upgrade of Percona Server
    - timeout: {{ upgrade.get('timeout', 0) }}

upgrade the package:
  cmd.run:
    - name: {{ upgrade.get('package', 'yum --assumeyes upgrade percona-server-server') | yaml_encode }}
    - require:
      - distlock: one node at a time

# The upgrade may have taken long: check that the lock is still held, because somebody may have broken it by hand.
still our turn:
  distlock.held:
    - name: {{ upgrade.get('lock', 'percona_prod') }}
    - require:
      - cmd: upgrade the package

restart the service:
  cmd.run:
    - name: {{ upgrade.get('service', 'systemctl restart mysql') | yaml_encode }}
    - require:
      - distlock: still our turn

back in the cluster:
  cmd.run:
    - name: {{ upgrade.get('health', 'mysqladmin --wait=60 ping') | yaml_encode }}
    - require:
      - cmd: restart the service

next one, please:
  distlock.unlocked:
    - name: {{ upgrade.get('lock', 'percona_prod') }}
    - require:
      - cmd: back in the cluster
