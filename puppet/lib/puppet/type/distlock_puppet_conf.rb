# frozen_string_literal: true

require 'puppet/parameter/boolean'
require_relative '../../puppet_x/distlock/command' unless defined?(PuppetX::Distlock::Command)
require_relative '../../puppet_x/distlock/outcome' unless defined?(PuppetX::Distlock::Outcome)
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
    desc 'Whether noop runs acquire the lock of whole runs too, for resources that have `noop => false`.'
  end

  newparam(:lock) do
    desc 'The lock of whole runs, or several in an array: if this run has waited for it, its log says so.'
  end

  newparam(:program) do
    desc 'The path of distlock-puppet.'
  end

  newparam(:config) do
    desc 'The config file of distlock.'
  end

  # Seconds to ask for the story of the wait. After that, the run continues without it.
  STORY_BOUND = 10

  # Before anything is applied, whatever --tags select.
  def pre_run_check
    return if self[:ensure] == :absent || setting != 'prerun_command' || catalog.nil?

    refuse_unguarded unless self[:guards_noop]
    tell_wait
  end

  # A noop run has not acquired the lock, but applies resources with `noop => false`.
  def refuse_unguarded
    unguarded = PuppetX::Distlock::Unguarded.in_noop(catalog)
    return if unguarded.empty?

    raise Puppet::Error, "this run with noop has not taken the lock, and would apply #{unguarded.join(', ')} (noop => false): " \
                         'class distlock::run_lock with noop_runs => true takes it'
  end

  # Puppet does not show the output of a prerun_command, so the wait of this run is logged here.
  def tell_wait
    return if self[:lock].nil? || Puppet[:prerun_command] != self[:value] || (Puppet[:noop] && !self[:guards_noop])

    names = Array(self[:lock])
    request = {
      want: 'run_lock', run: Process.pid, owner: "puppet:#{Puppet[:certname]}",
      settings: { **(names.length > 1 ? { lock_names: names } : { lockname: names.first }), config: self[:config] }.compact
    }
    answer = PuppetX::Distlock::Command.ask(self[:program] || 'distlock-puppet', ['resource'], request: request, bound: STORY_BOUND)
    story = answer.dig('run_lock', 'story')
    notice(PuppetX::Distlock::Command.one_line(story)) unless story.nil?
  rescue PuppetX::Distlock::Refused => e
    debug("whether this run has waited for #{names.join(' and ')} is not known: #{e.message}")
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
