# frozen_string_literal: true

# Once, also where Facter finds a second copy: the synced one and that of the module.
require_relative '../puppet_x/distlock/fact' unless defined?(PuppetX::Distlock::Fact)

# @summary The locks that this node holds, by their names.
#
# `locks` has `owner`, `since`, `token`, `lifetime`, `state` and `reason` of each. If etcd does not answer within a
# second, `stale` is true, `error` says why, `locks` is the last answer, and `asked` is the time of that answer.
Facter.add(:distlock) do
  confine kernel: 'Linux'

  setcode { PuppetX::Distlock::Fact.value }
end
