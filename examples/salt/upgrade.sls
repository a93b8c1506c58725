# Upgrade one node of a cluster, one node at a time: lock, package, service, health check, unlock.
#
#   salt 'db*' state.apply upgrade                                    one node upgrades, the others fail and name it
#   salt 'db*' state.apply upgrade pillar='{"upgrade": {"timeout": -1}}'   each waits for its turn
#
# If any step fails, the lock stays with this node, and no other node runs into the same problem. Repair the node and
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

# Check that the lock is still held: somebody may have released it by hand during the upgrade.
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
