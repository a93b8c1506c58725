# Install distlock into the Python that runs this minion; Salt then finds its modules by itself.
#
#   salt '*' state.apply install pillar='{"distlock_package": "/srv/distlock_core-0.1.0-py3-none-any.whl"}'
#
# `make wheel` builds the wheel. There is no default: the package is not on a public index, where anybody could register
# its name.
{% if not pillar.get('distlock_package') %}
{{ raise('say where distlock comes from: pillar distlock_package, the path or URL of the wheel that make wheel builds') }}
{% endif %}
distlock-core:
  pip.installed:
    - name: {{ pillar['distlock_package'] }}
    - reload_modules: True
