# Upgrade a MySQL primary with replicas, one node at a time, the primary last: salt 'db*' state.apply upgrade
#
# The grain mysql_role says which node is the primary. Replicas have a lower rank, so they are served first, and the
# primary also waits until all replicas have the upgrade. A node that finds no upgrade takes no lock.
{% set is_primary = grains['mysql_role'] == 'primary' %}
one node at a time, the primary last:
  distlock.locked:
    - name: mysql_prod
    - reason: Upgrade of MySQL
    - timeout: -1
    - rank: {{ 90 if is_primary else 10 }}
{%- if is_primary %}
    - gate: /usr/local/bin/replicas-upgraded
{%- endif %}
    - prereq:
      - pkg: mysql-community-server

mysql-community-server:
  pkg.latest: []

next one, please:
  distlock.unlocked:
    - name: mysql_prod
    - require:
      - pkg: mysql-community-server
    - onchanges:
      - distlock: one node at a time, the primary last
