# Put distlock into the Python that runs this minion; Salt finds its modules by itself from then on.
#
#   salt '*' state.apply install
distlock-core:
  pip.installed:
    - name: {{ pillar.get('distlock_package', 'distlock-core') }}
    - reload_modules: True
