# From the master: all nodes of a cluster, each as soon as the one before it is done.
#
#   salt-run state.orchestrate orch.upgrade_cluster
#
# Nothing here says whose turn it is: the lock does, and it also keeps out an operator's own `distlock -- yum upgrade`.
{% set nodes = pillar.get('nodes', 'db*') %}
{% set upgrade = pillar.get('upgrade', {}) %}
{# Not for ever: behind a node that has failed, and keeps the lock, nobody's turn comes. #}
{% set _ = upgrade.setdefault('timeout', 3600) %}

each node in its turn:
  salt.state:
    - tgt: {{ nodes | yaml_encode }}
    - sls: upgrade
    - pillar: {{ {'upgrade': upgrade, 'distlock': pillar.get('distlock', {})} | json }}

# A node that has failed keeps the lock, and those behind it have given up: say who it is.
what is still locked:
  salt.function:
    - name: distlock.list
    - tgt: {{ nodes | yaml_encode }}
    - onfail:
      - salt: each node in its turn
