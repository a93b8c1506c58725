# Upgrade all nodes of a cluster from the master, one after the other.
#
#   salt-run state.orchestrate orch.upgrade_cluster
#
# The lock decides whose turn it is, and it also keeps out an operator's own `distlock -- yum upgrade`.
{% set nodes = pillar.get('nodes', 'db*') %}
{% set upgrade = pillar.get('upgrade', {}) %}
{# The wait is limited: a node that has failed keeps the lock, so the nodes behind it would wait forever. #}
{% set _ = upgrade.setdefault('timeout', 3600) %}

each node in its turn:
  salt.state:
    - tgt: {{ nodes | yaml_encode }}
    - sls: upgrade
    - pillar: {{ {'upgrade': upgrade, 'distlock': pillar.get('distlock', {})} | json }}

# A node that has failed still holds the lock, and the nodes behind it have timed out: show which node it is.
what is still locked:
  salt.function:
    - name: distlock.list
    - tgt: {{ nodes | yaml_encode }}
    - onfail:
      - salt: each node in its turn
