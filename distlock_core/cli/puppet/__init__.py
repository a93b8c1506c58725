"""The command `distlock-puppet`, which the Puppet module calls."""
