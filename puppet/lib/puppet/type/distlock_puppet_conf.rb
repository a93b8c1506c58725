# frozen_string_literal: true

Puppet::Type.newtype(:distlock_puppet_conf) do
  @doc = <<~DOC
    @summary One setting in this node's own puppet.conf. For the class `distlock::run_lock`.

    @example
      distlock_puppet_conf { 'main/prerun_command':
        value => '/usr/local/bin/distlock-puppet acquire percona_prod',
      }
  DOC

  ensurable do
    desc 'Whether the setting is there. `absent` takes away only what runs `distlock-puppet`: others are left alone.'

    defaultvalues
    defaultto :present
  end

  newparam(:name, namevar: true) do
    desc 'The section and the setting: `main/prerun_command`.'

    validate do |value|
      raise ArgumentError, "expected SECTION/SETTING, got #{value.inspect}" unless %r{\A\w+/\w+\z}.match?(value)
    end
  end

  newproperty(:value) do
    desc 'What the setting is to be: one line. Puppet expands `$name` in it, so there is no `$`.'

    validate do |value|
      raise ArgumentError, "value: expected one line without a $, got #{value.inspect}" unless %r{\A[^$[:cntrl:]]+\z}.match?(value)
    end
  end

  newparam(:path) do
    desc 'The file. Default: the puppet.conf that this run has read.'

    defaultto { Puppet[:config] }
  end

  validate do
    raise ArgumentError, 'value: required' if self[:ensure] == :present && self[:value].nil?
  end

  def section
    self[:name].split('/').first
  end

  def setting
    self[:name].split('/').last
  end

  autorequire(:file) { [self[:path]] }
end
