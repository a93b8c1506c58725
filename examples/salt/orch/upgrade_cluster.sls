# From the master: all nodes of a cluster, each as soon as the one before it is done.
#
#   salt-run state.orchestrate orch.upgrade_cluster
#
# Nothing here says whose turn it is: the lock does, and it also keeps out an operator's own `distlock -- yum upgrade`.
{% set nodes = pillar.get('nodes', 'db*') %}
{% set upgrade = pillar.get('upgrade', {}) %}
{% set _ = upgrade.update({'timeout': -1}) %}

each node in its turn:
  salt.state:
    - tgt: {{ nodes | yaml_encode }}
    - sls: upgrade
    - pillar: {{ {'upgrade': upgrade, 'distlock': pillar.get('distlock', {})} | json }}

# With `until: unlocked` a node that failed keeps the lock. If so, say who.
what is still locked:
  salt.function:
    - name: distlock.list
    - tgt: {{ nodes | yaml_encode }}
    - require:
      - salt: each node in its turn
