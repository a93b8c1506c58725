# frozen_string_literal: true

# Loaded once, even if Facter finds two copies: the synced file and the module's own.
require_relative '../puppet_x/distlock/fact' unless defined?(PuppetX::Distlock::Fact)

# @summary The locks that this node holds, by their names.
#
# `locks` has `owner`, `since`, `token`, `lifetime`, `state` and `reason` of each. If etcd does not answer within a
# second, `stale` is true, `error` says why, `locks` is the last answer, and `asked` is the time of that answer.
Facter.add(:distlock) do
  confine kernel: 'Linux'

  setcode { PuppetX::Distlock::Fact.value }
end
