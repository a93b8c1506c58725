# Put distlock into the Python that runs this minion; Salt finds its modules by itself from then on.
#
#   salt '*' state.apply install pillar='{"distlock_package": "/srv/distlock_core-0.1.0-py3-none-any.whl"}'
#
# The wheel is what `make wheel` builds. There is no default: the package is on no public index, where anybody may
# register its name.
{% if not pillar.get('distlock_package') %}
{{ raise('say where distlock comes from: pillar distlock_package, the path or URL of the wheel that make wheel builds') }}
{% endif %}
distlock-core:
  pip.installed:
    - name: {{ pillar['distlock_package'] }}
    - reload_modules: True
