# frozen_string_literal: true

require 'puppet/parameter/boolean'
require 'shellwords'
require_relative '../../puppet_x/distlock/unguarded' unless defined?(PuppetX::Distlock::Unguarded)

Puppet::Type.newtype(:distlock) do
  @doc = <<~DOC
    @summary A lock in etcd v3, shared by everything that changes a cluster.

    Resources that must run under the lock require it. While another node holds it, `ensure => locked` fails (or waits,
    see `timeout`), and the resources that require it are skipped; the next run tries again.

    A lock that this node's Puppet already holds is left unchanged: so a node that has failed or rebooted in mid-upgrade
    continues with its own lock.

    @example One node at a time; the lock stays if the upgrade fails, so that no other node follows
      distlock { 'percona_prod':
        ensure => locked,
        reason => 'Upgrade of Percona Server',
      }
      -> package { 'percona-server-server':
        ensure => latest,
      }
      -> distlock { 'percona_prod, next one please':
        ensure    => unlocked,
        lock_name => 'percona_prod',
      }

    @example The same, released at the end of the run however it ends; wait for the turn
      distlock { 'percona_prod':
        ensure  => locked,
        until   => run_end,
        timeout => -1,
      }
  DOC

  newproperty(:ensure) do
    desc <<~DOC
      `locked`: held by this node's Puppet. `unlocked`: not held by it; it is an error if another holds it, unless
      `force` is set. (`puppet resource` also shows `held` by another, and `cooling`.)
    DOC

    newvalue(:locked) { provider.lock }
    newvalue(:unlocked) { provider.unlock }
    defaultto :locked

    def retrieve
      should.nil? ? provider.show : provider.look(should)
    end

    def insync?(is)
      is == should
    end

    # The only place where noop can show the obstacle; a real run fails with it.
    def is_to_s(value) # rubocop:disable Naming/PredicateName
      (resource.noop? && provider.seen) || super
    end

    def change_to_s(_from, _to)
      provider.done
    end
  end

  newparam(:name, namevar: true) do
    desc 'Name of the lock, unless `lock_name` is given.'
  end

  newparam(:lock_name) do
    desc 'Name of the lock: for a second resource with the same lock, which needs a different title.'

    validate do |value|
      raise ArgumentError, 'lock_name: expected a string' unless value.is_a?(String) && !value.empty?
    end
  end

  newparam(:lock_names) do
    desc <<~DOC
      Several locks, in an array, which are acquired together or not at all. The title is then any text. Their
      order makes no difference. `ensure => unlocked` releases them in one transaction, or none of them.
    DOC

    validate do |value|
      names = Array(value)
      raise ArgumentError, 'lock_names: expected names' unless names.any? && names.all? { |name| name.is_a?(String) && !name.empty? }
    end
    munge { |value| Array(value) }
  end

  newparam(:reason) do
    desc 'Why the lock is taken; shown to everybody who looks or waits.'

    validate { |value| raise ArgumentError, 'reason: expected a string' unless value.is_a?(String) }
  end

  UNITS = { 's' => 1, 'm' => 60, 'h' => 3600, 'd' => 86_400 }.freeze # seconds

  # A number of seconds, or a time with units, as 10m or 1h30m. `puppet resource` passes numbers as strings.
  def self.seconds(value, word, range)
    text = value.to_s
    several = %r{\A(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?\z}.match?(text)
    parts = several ? text.scan(%r{(\d+)([dhms])}) : [text.match(/\A(.*?)([smhd]?)\z/m).captures]
    number = parts.sum { |digits, unit| Float(digits) * UNITS.fetch(unit, 1) }
    raise ArgumentError unless range.cover?(number) && number.finite?

    number == number.to_i ? number.to_i : number
  rescue ArgumentError
    raise ArgumentError, "#{word}: expected a number of seconds#{range.begin.positive? ? ' above 0' : ''}, got #{value.inspect}"
  end

  # @raise [ArgumentError] for anything but a whole number from 0 to 99.
  def self.rank(value)
    raise ArgumentError, "rank: expected a whole number from 0 to 99, got #{value.inspect}" unless %r{\A\d{1,2}\z}.match?(value.to_s)

    value.to_i
  end

  newparam(:timeout) do
    desc <<~DOC
      Longest wait, in seconds; 0 fails at once, -1 waits forever. Default: the setting in the environment or config file
      of the node, else 0.
    DOC

    munge { |value| Puppet::Type::Distlock.seconds(value, 'timeout', -1e9..1e9) }
  end

  newparam(:owner) do
    desc 'Name of the holder. Default: `puppet:` and the certname. The same owner can enter its own lock again.'

    validate do |value|
      raise ArgumentError, 'owner: expected a string' unless value.is_a?(String) && !value.empty?
    end
  end

  newparam(:until) do
    desc <<~DOC
      `unlocked`: until `ensure => unlocked` or a person releases it, even across reboots. `run_end`: until this Puppet run
      has ended, however it ended.
    DOC

    newvalues(:unlocked, :run_end)
    defaultto { @resource[:ensure] == :locked ? :unlocked : nil }
  end

  newparam(:ttl) do
    desc 'With `until => run_end`: how many seconds the lock outlives the machine. Default: 60.'

    munge { |value| Puppet::Type::Distlock.seconds(value, 'ttl', 1..9e9) }
  end

  newparam(:on_loss) do
    desc <<~DOC
      With `until => run_end`, what to do if the lock is lost in mid-run (somebody has unlocked it, etcd was away for too
      long): `continue`, the default, writes a warning to syslog, `kill` also ends the run.
    DOC

    newvalues(:continue, :kill)
  end

  newparam(:slots) do
    desc 'Number of simultaneous holders allowed; the same number everywhere. Default: 1.'

    munge do |value|
      raise ArgumentError, "slots: expected a whole number, got #{value.inspect}" unless %r{\A[1-9]\d{0,3}\z}.match?(value.to_s)

      value.to_i
    end
  end

  newparam(:shared, boolean: true, parent: Puppet::Parameter::Boolean) do
    desc 'Hold the lock together with any number of other shared holders, but with no exclusive one. Default: false.'
  end

  newparam(:window) do
    desc <<~DOC
      Times outside of which the lock is not acquired, such as `Mon-Fri 22:00-04:00 Europe/Berlin, !Sat`. A policy of the
      lock comes before it.
    DOC
  end

  newparam(:expect) do
    desc 'Time that the hold is expected to take, such as `20m`: after it, the hold is shown as OVERDUE.'
  end

  newparam(:rank) do
    desc <<~DOC
      Waiters with a lower rank, from 0 to 99, are served first, and those with the same rank in the order of arrival.
      Default: 50.
    DOC

    munge { |value| Puppet::Type::Distlock.rank(value) }
  end

  newparam(:force, boolean: true, parent: Puppet::Parameter::Boolean) do
    desc 'With `ensure => unlocked`: release the lock even if another owner holds it. Look with `distlock --show` first.'
  end

  newparam(:cooldown) do
    desc <<~DOC
      With `ensure => unlocked`: seconds that the lock stays taken afterwards, so that the node can settle before the
      next one begins.
    DOC

    munge { |value| Puppet::Type::Distlock.seconds(value, 'cooldown', 1..9e9) }
  end

  newparam(:endpoints) do
    desc 'Members of the etcd cluster: an array of URLs, or one string with commas. Usually from the config file.'

    validate do |value|
      urls = Array(value)
      raise ArgumentError, 'endpoints: expected URLs' unless urls.any? && urls.all? { |url| url.is_a?(String) && !url.empty? }
    end
  end

  newparam(:prefix) do
    desc 'The realm: prefix of all its keys in etcd. Usually from the config file.'
  end

  newparam(:config) do
    desc 'The config file. Default: `/etc/distlock/distlock.yaml`. User, password and keys can only be set there.'
  end

  newparam(:connect_timeout) do
    desc 'Time limit for the first contact with etcd, in seconds. Default: 5.'

    munge { |value| Puppet::Type::Distlock.seconds(value, 'connect_timeout', 1e-3..1e9) }
  end

  newparam(:gate) do
    desc <<~DOC
      Program and arguments, in an array, that exits with 0 if the cluster is healthy. Until then the lock is neither acquired
      nor released. No shell interprets them.
    DOC

    validate do |value|
      words = Array(value)
      raise ArgumentError, 'gate: expected a program and its arguments' unless words.any? && words.all?(String)
    end
    munge { |value| Array(value).map { |word| Shellwords.escape(word) }.join(' ') }
  end

  newparam(:gate_timeout) do
    desc <<~DOC
      How long to wait, in seconds, for the gate before the lock is released; after that the resource fails, and the lock is
      kept until an operator unlocks it. Also the time limit of one run of the gate. Default: 600.
    DOC

    munge { |value| Puppet::Type::Distlock.seconds(value, 'gate_timeout', 1e-3..1e9) }
  end

  newparam(:gate_every) do
    desc 'Pause between two runs of the gate, in seconds. Default: 5.'

    munge { |value| Puppet::Type::Distlock.seconds(value, 'gate_every', 1e-3..1e9) }
  end

  newparam(:gate_for) do
    desc 'Time for which the gate must have been green without interruption, in seconds. Default: 0.'

    munge { |value| Puppet::Type::Distlock.seconds(value, 'gate_for', 0..1e9) }
  end

  newproperty(:held_by) do
    desc 'Owner of the lock. Read-only: for `puppet resource distlock`.'

    validate { |_| raise ArgumentError, 'held_by is read-only' }
  end

  newproperty(:held_since) do
    desc 'Start of the hold. Read-only.'

    validate { |_| raise ArgumentError, 'held_since is read-only' }
  end

  newproperty(:held_reason) do
    desc 'Reason given by the owner. Read-only.'

    validate { |_| raise ArgumentError, 'held_reason is read-only' }
  end

  newproperty(:lifetime) do
    desc 'How it ends: `persistent`, `leased` or `bound`. Read-only.'

    validate { |_| raise ArgumentError, 'lifetime is read-only' }
  end

  newproperty(:token) do
    desc 'The fencing token, a number that only grows. Read-only.'

    validate { |_| raise ArgumentError, 'token is read-only' }
  end

  newproperty(:waiting) do
    desc 'Number of waiters. Read-only.'

    validate { |_| raise ArgumentError, 'waiting is read-only' }
  end

  validate do
    wanted = self[:ensure]
    locking = [:reason, :timeout, :until, :slots, :shared, :window, :expect, :rank].reject { |word| self[word].nil? }
    unlocking = [:force, :cooldown].reject { |word| self[word].nil? || self[word] == false }
    binding = [:ttl, :on_loss].reject { |word| self[word].nil? }
    raise ArgumentError, 'lock_name, lock_names: use one of the two' unless self[:lock_name].nil? || self[:lock_names].nil?
    raise ArgumentError, "#{locking.join(', ')}: goes with ensure => locked" if wanted == :unlocked && locking.any?
    raise ArgumentError, "#{unlocking.join(', ')}: goes with ensure => unlocked" if wanted == :locked && unlocking.any?
    if binding.any? && self[:until] != :run_end
      raise ArgumentError, "#{binding.join(', ')}: about a lock that ends with the run: goes with until => run_end"
    end
  end

  def locks
    self[:lock_names] || [self[:lock_name] || self[:name]]
  end

  # The name of the lock, or of several in one phrase, for messages.
  def lock
    PuppetX::Distlock::Unguarded.listed(locks)
  end

  # Puppet skips a resource excluded by --tags, --skip_tags or noop, but still applies the resources that require it. Such
  # a run is refused before it applies anything, so that no resource is applied without the lock that it requires.
  def pre_run_check
    return unless self[:ensure] == :locked && catalog && catalog.host_config?

    unguarded = PuppetX::Distlock::Unguarded.by(self)
    return if unguarded.empty?

    raise Puppet::Error, "this run would apply #{unguarded.join(', ')} without the lock #{lock}: #{PuppetX::Distlock::Unguarded.advice(self)}"
  end

  autorequire(:file) do
    [self[:config] || '/etc/distlock/distlock.yaml', '/usr/local/bin/distlock', '/usr/local/bin/distlock-puppet']
  end

  autorequire(:package) { ['distlock-core', 'distlock'] }
end
