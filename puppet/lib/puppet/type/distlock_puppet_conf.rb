# frozen_string_literal: true

require 'puppet/parameter/boolean'
require_relative '../../puppet_x/distlock/unguarded' unless defined?(PuppetX::Distlock::Unguarded)

Puppet::Type.newtype(:distlock_puppet_conf) do
  @doc = <<~DOC
    @summary One setting in this node's own puppet.conf. For the class `distlock::run_lock`.

    @example
      distlock_puppet_conf { 'main/prerun_command':
        value => '/usr/local/bin/distlock-puppet acquire percona_prod',
      }
  DOC

  ensurable do
    desc 'Whether the setting is present. `absent` removes only a setting that runs `distlock-puppet`.'

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
    desc 'Value of the setting: one line. Puppet expands `$name` in it, so a `$` is refused.'

    validate do |value|
      raise ArgumentError, "value: expected one line without a $, got #{value.inspect}" unless %r{\A[^$[:cntrl:]]+\z}.match?(value)
    end
  end

  newparam(:path) do
    desc 'The file. Default: the puppet.conf that this run has read.'

    defaultto { Puppet[:config] }
  end

  newparam(:guards_noop, boolean: true, parent: Puppet::Parameter::Boolean) do
    desc 'Whether the lock of whole runs is taken in runs with noop too, where resources have `noop => false`.'
  end

  # A run with noop has taken no lock, and would apply what has `noop => false` all the same.
  def pre_run_check
    return if self[:ensure] == :absent || self[:guards_noop] || setting != 'prerun_command' || catalog.nil?

    unguarded = PuppetX::Distlock::Unguarded.in_noop(catalog)
    return if unguarded.empty?

    raise Puppet::Error, "this run with noop has not taken the lock, and would apply #{unguarded.join(', ')} (noop => false): " \
                         'class distlock::run_lock with noop_runs => true takes it'
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
