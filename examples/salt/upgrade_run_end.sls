# The same upgrade, but the lock is released when this state run ends, whether it succeeds, fails or is killed. If the
# whole machine dies, the lock expires after `ttl` seconds. The other nodes are upgraded even if one has failed.
{% set upgrade = pillar.get('upgrade', {}) %}

one node at a time:
  distlock.locked:
    - name: {{ upgrade.get('lock', 'percona_prod') }}
    - reason: Upgrade of Percona Server
    - timeout: {{ upgrade.get('timeout', 0) }}
    - until: run_end
    - ttl: {{ upgrade.get('ttl', 60) }}
    - on_loss: {{ upgrade.get('on_loss', 'kill') }}

upgrade the package:
  cmd.run:
    - name: {{ upgrade.get('package', 'yum --assumeyes upgrade percona-server-server') | yaml_encode }}
    - require:
      - distlock: one node at a time

restart the service:
  cmd.run:
    - name: {{ upgrade.get('service', 'systemctl restart mysql') | yaml_encode }}
    - require:
      - cmd: upgrade the package

back in the cluster:
  cmd.run:
    - name: {{ upgrade.get('health', 'mysqladmin --wait=60 ping') | yaml_encode }}
    - require:
      - cmd: restart the service
