# From the master: all nodes of a cluster, each as soon as the one before it is done.
#
#   salt-run state.orchestrate orch.upgrade_cluster
#
# The lock decides whose turn it is, and it also keeps out an operator's own `distlock -- yum upgrade`.
{% set nodes = pillar.get('nodes', 'db*') %}
{% set upgrade = pillar.get('upgrade', {}) %}
{# A bounded wait: a node that has failed keeps the lock, and nobody behind it would ever get a turn. #}
{% set _ = upgrade.setdefault('timeout', 3600) %}

each node in its turn:
  salt.state:
    - tgt: {{ nodes | yaml_encode }}
    - sls: upgrade
    - pillar: {{ {'upgrade': upgrade, 'distlock': pillar.get('distlock', {})} | json }}

# A node that has failed keeps the lock, and the nodes behind it have given up: show which node it is.
what is still locked:
  salt.function:
    - name: distlock.list
    - tgt: {{ nodes | yaml_encode }}
    - onfail:
      - salt: each node in its turn
