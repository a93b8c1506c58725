# The same upgrade with a lock that ends with this state run, however it ends: done, failed, killed, or with the whole
# machine (then after `ttl` seconds). A failed node does not prevent the others from following.
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
