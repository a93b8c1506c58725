# A reactor: freeze a lock whose holder has lost it in the middle of its work, so that no other node goes on before a
# person has looked. Without `ended` nobody has ended the hold: its machine died, or was cut off from etcd.
{% if not data.get('ended') %}
{% set reason = data['owner'] ~ ' on ' ~ data.get('host', '?') ~ ' lost it: look, and thaw it' %}
freeze the lost lock:
  runner.distlock.freeze:
    - args:
      - name: {{ data['lock'] | json }}
      - reason: {{ reason | json }}
{% endif %}
