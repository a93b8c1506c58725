# frozen_string_literal: true

require 'puppet/parameter/boolean'
require_relative '../../puppet_x/distlock/guard' unless defined?(PuppetX::Distlock::Guard)
require_relative '../../puppet_x/distlock/outcome' unless defined?(PuppetX::Distlock::Outcome)
require_relative '../../puppet_x/distlock/unguarded' unless defined?(PuppetX::Distlock::Unguarded)

Puppet::Type.newtype(:distlock_protect) do
  @doc = <<~DOC
    @summary A lock that is acquired right before a change of the resources that it protects. Use `distlock::protect`.

    The lock is acquired before the first of the protected resources that is out of sync is changed, and released once all
    of them have been applied. In a run in which all of them are in sync it is not acquired.
  DOC

  newproperty(:ensure) do
    desc '`unlocked`: the lock is released once the protected resources have been applied.'

    newvalue(:unlocked) { resource.guard.release }
    defaultto :unlocked

    def retrieve
      !resource.noop? && resource.guard.held? ? :locked : :unlocked
    end

    def change_to_s(_from, _to)
      resource.guard.done
    end
  end

  newparam(:name, namevar: true) do
    desc 'Name of the lock, unless `lock_name` is given.'
  end

  newparam(:lock_name) do
    desc 'Name of the lock: for a second resource with the same lock, which needs a different title.'
  end

  newparam(:lock_names) do
    desc 'Several locks, in an array, as for `distlock`. The title is then any text.'

    munge { |value| Array(value) }
  end

  newparam(:resources, array_matching: :all) do
    desc 'References to the protected resources. A class or a defined type stands for all that it contains.'

    munge { |value| Array(value).map(&:to_s) }
  end

  newparam(:until) do
    desc <<~DOC
      `unlocked`: if a protected resource fails, the lock stays, even across reboots, until a later run of this node has
      applied all of them, or a person releases it. `run_end`: it is released when this Puppet run has ended, however it
      ended.
    DOC

    newvalues(:unlocked, :run_end)
    defaultto :unlocked
  end

  newparam(:reason) do
    desc 'Why the lock is taken; shown to everybody who looks or waits.'
  end

  newparam(:timeout) do
    desc 'Longest wait, in seconds; 0 fails at once, -1 waits forever.'
  end

  newparam(:owner) do
    desc 'Name of the holder. Default: `puppet:` and the certname.'
  end

  newparam(:ttl) do
    desc 'With `until => run_end`: how many seconds the lock outlives the machine. Default: 60.'
  end

  newparam(:on_loss) do
    desc 'With `until => run_end`, what to do if the lock is lost in mid-run: `continue` or `kill`, as for `distlock`.'
  end

  newparam(:slots) do
    desc 'Number of simultaneous holders allowed; the same number everywhere. Default: 1.'
  end

  newparam(:rank) do
    desc 'Waiters with a lower rank, from 0 to 99, are served first, as for `distlock`. Default: 50.'
  end

  newparam(:shared, boolean: true, parent: Puppet::Parameter::Boolean) do
    desc 'Hold the lock together with any number of other shared holders, but with no exclusive one. Default: false.'
  end

  newparam(:window) do
    desc 'Times outside of which the lock is not acquired, as for `distlock`.'
  end

  newparam(:expect) do
    desc 'Time that the hold is expected to take, as for `distlock`.'
  end

  newparam(:on_failure) do
    desc <<~DOC
      What to do with the lock if a protected resource fails, or the gate is not green in time, until a person has looked:
      `keep` leaves it taken, `freeze` releases it, and lets nobody acquire it, in any slot.
    DOC

    newvalues(:keep, :freeze)
  end

  newparam(:cooldown) do
    desc 'Seconds that the lock stays taken after success.'
  end

  newparam(:endpoints) do
    desc 'Members of the etcd cluster, as for `distlock`. Usually from the config file.'
  end

  newparam(:prefix) do
    desc 'The realm: prefix of all its keys in etcd. Usually from the config file.'
  end

  newparam(:config) do
    desc 'The config file. Default: `/etc/distlock/distlock.yaml`.'
  end

  newparam(:connect_timeout) do
    desc 'Time limit for the first contact with etcd, in seconds. Default: 5.'
  end

  newparam(:gate) do
    desc 'As for `distlock`: program and arguments, in an array, that exits with 0 if the cluster is healthy.'
  end

  newparam(:gate_timeout) do
    desc 'As for `distlock`, in seconds. Default: 600.'
  end

  newparam(:gate_every) do
    desc 'Pause between two runs of the gate, in seconds. Default: 5.'
  end

  newparam(:gate_for) do
    desc 'Time for which the gate must have been green without interruption, in seconds. Default: 0.'
  end

  validate do
    raise ArgumentError, 'resources: expected at least one' if Array(self[:resources]).empty?
    if self[:until] != :run_end && [:ttl, :on_loss].any? { |word| !self[word].nil? }
      raise ArgumentError, 'ttl, on_loss: about a lock that ends with the run: goes with until => run_end'
    end
  end

  def locks
    self[:lock_names] || [self[:lock_name] || self[:name]]
  end

  # The name of the lock, or of several in one phrase, for messages.
  def lock
    PuppetX::Distlock::Unguarded.listed(locks)
  end

  def guard
    @guard ||= PuppetX::Distlock::Guard.new(self)
  end

  # Called before the run applies anything.
  def pre_run_check
    protected = self[:resources].flat_map { |reference| contained(reference) }
    unguarded = left_out? ? PuppetX::Distlock::Unguarded.names(protected) : []
    unless unguarded.empty?
      advice = PuppetX::Distlock::Unguarded.advice(self)
      raise Puppet::Error, "this run would apply #{unguarded.join(', ')} and never release the lock #{lock}: #{advice}"
    end
    protected.each { |one| guard.protect(one) }
  end

  autorequire(:file) do
    [self[:config] || '/etc/distlock/distlock.yaml', '/usr/local/bin/distlock', '/usr/local/bin/distlock-puppet']
  end

  private

  def left_out?
    noop? || PuppetX::Distlock::Unguarded.left_out?(self)
  end

  def contained(reference)
    found = catalog.resource(reference)
    raise Puppet::Error, "resources: #{reference} is not in the catalog" if found.nil?

    inside(found)
  end

  def inside(resource)
    return [] if resource.is_a?(Puppet::Type.type(:distlock_protect))
    return [resource] unless resource.is_a?(Puppet::Type::Component)

    catalog.adjacent(resource, direction: :out).flat_map { |one| inside(one) }
  end
end
